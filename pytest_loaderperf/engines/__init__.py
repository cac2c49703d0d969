"""Loader engines of several libraries on one dataset: each in a process of its own, measured in turns."""
