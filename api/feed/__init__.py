"""Labelled actions, summaries and tour triggers, as published stream clients and receivers read them."""
