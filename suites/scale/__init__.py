"""Whether simulated jobs take as long as real ones: ``python -m suites.scale``."""
