"""asv benchmarks. In asv lower is always better, so these are seconds per sample and ratios of times."""
