"""What vendors report back: read, resolved to sessions, recorded."""
