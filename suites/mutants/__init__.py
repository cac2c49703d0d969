"""Damaged files of every format: each is read in a child process, and must give the right rows or a DataError."""
