"""Nudges out to systems that are called: one port, and what is promised of each channel."""
