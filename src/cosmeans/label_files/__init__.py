"""Tables of labels: their columns, how they are written, and folders with one table for each file of rows."""
