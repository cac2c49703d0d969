"""The reference loader beside the loaders people use, in one interleaved run: ``python -m suites.peers``."""
