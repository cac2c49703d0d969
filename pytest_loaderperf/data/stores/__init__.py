"""Stores: the rows of a table as a map-style dataset, one way to keep them in memory a file."""
