"""Which detector finds steps across commits: python -m suites.history."""
