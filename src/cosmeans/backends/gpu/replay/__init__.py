"""How little the device waits for the host: memory that is kept, epochs captured once and replayed."""
