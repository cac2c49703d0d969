"""Checks of what lies on disk."""
