"""What comes in: pure functions from a sender's bytes to outside events, one module for each source."""
