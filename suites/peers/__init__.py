"""The reference loader and other libraries' loaders, in one interleaved run: ``python -m suites.peers``."""
