"""Example configs."""
