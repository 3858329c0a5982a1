"""The database's schema, step by step. `run.upgrade(ledger)` is the way in; it only goes forward."""
