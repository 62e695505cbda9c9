"""The parts of `KMeans`: what users hand in, where a fit starts, what it leaves, what computes it."""
