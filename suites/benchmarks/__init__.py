"""asv benchmarks. Lower is better everywhere in asv, so these are seconds per sample and ratios of times."""
