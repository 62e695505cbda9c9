"""Cheap products that bound every score from above, one screen a file."""
