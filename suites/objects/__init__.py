"""Tables of object stores against plain parallel range reads of the same bytes."""
