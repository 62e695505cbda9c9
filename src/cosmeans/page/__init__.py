"""The page on clusters: what is found of the rows, and how it is shown in one HTML file."""
