"""The rules of nudgeledger: pure functions over recorded facts.

Standard library and `transitions` only. Nothing here reads a clock, a random source, a file, a
network or a database, and nothing iterates over an unordered collection: time, identity and rules
enter as data, so every decision is a function of the ledger.
"""
