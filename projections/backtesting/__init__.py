"""Backtests: other rules over recorded events, in virtual time."""
