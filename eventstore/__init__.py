"""The ledger: events in one database, in commit order. Blind to what an event means.

Everything that writes runs inside `engine.Ledger.transaction()`, of which a database has one at a time.
"""
