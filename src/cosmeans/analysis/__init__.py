"""What people ask of clusters: which, how good, how many, which rows are copies, what changed."""
