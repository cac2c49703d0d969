"""Runs: a claim asks the judge, the judge asks for more, the rounds measure."""
