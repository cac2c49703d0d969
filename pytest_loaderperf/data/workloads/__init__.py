"""Synthetic workloads: their specs, fields, datasets, and how they are written to disk."""
