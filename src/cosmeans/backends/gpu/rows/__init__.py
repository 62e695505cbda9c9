"""Where the rows of a session are: the memory for them, how they arrive, and passes over them."""
