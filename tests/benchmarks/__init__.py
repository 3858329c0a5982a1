"""Benchmarks. They print figures with the machine and the versions; none is a test."""
