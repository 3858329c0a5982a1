"""Pages that call only the public API."""
