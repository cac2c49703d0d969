"""The columns and lists of Arrow tables as arrays."""
