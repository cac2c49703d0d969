"""Results in the formats of other tools: each is a function of one or several results that gives a file's text."""
