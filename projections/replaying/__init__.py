"""Replay: every recorded turn executed again and compared."""
