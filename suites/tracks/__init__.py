"""Three tracks for every on-disk format, before and after pre-load: a sample, a loader, a training loop."""
