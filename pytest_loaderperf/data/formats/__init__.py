"""On-disk formats, one file each behind one Protocol."""
