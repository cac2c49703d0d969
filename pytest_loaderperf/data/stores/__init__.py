"""Stores: the rows of a table as a map-style dataset; each module is one way to keep them in memory."""
