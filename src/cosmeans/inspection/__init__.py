"""What one pass over rows finds of them: lengths, weights, rows left out."""
