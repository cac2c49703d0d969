"""Checks of data on disk."""
