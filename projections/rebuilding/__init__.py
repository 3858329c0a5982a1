"""Rebuild: projections derived anew beside the live ones, and switched."""
