"""Are the verdicts right? Measured on this machine, in minutes; ``make calibrate`` runs it, CI does not."""
