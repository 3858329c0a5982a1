"""Derived from events, disposable, free of side effects."""
