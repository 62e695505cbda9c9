"""One format of rows a file."""
