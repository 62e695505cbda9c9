"""Numbers from whatever holds them, judged by one rule (docs/inputs.md): the same values, the same answer."""
