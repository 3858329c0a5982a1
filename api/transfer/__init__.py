"""A product's events out of one ledger and into another, and a single decision as a file of its own."""
