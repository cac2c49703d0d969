"""Sides whose loader lives in another process: a replay, another interpreter, or the base commit."""
