"""Execution: cores, a persistent pool of threads, and turns."""
