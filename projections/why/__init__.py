"""Explanations: of decisions, of silence, and of everything around them."""
