"""Passes: what watches a loader, in a process of its own."""
