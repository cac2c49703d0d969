"""Ranks of a job on this machine: how fast the death of one is named, what their barriers cost, and hosts far apart."""
