"""How little the device waits for the host: epochs captured once and replayed."""
