"""Which route a request takes: `match` holds the table. Pure, no I/O."""
