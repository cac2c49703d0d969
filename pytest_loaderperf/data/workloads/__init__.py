"""Synthetic workloads: their specs, fields, datasets, and how they are put on disk."""
