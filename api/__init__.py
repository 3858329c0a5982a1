"""The world: HTTP, the command line, streams, and the service they share."""
