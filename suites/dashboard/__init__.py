"""asv's dashboard of this project: the machine it is told of, earlier commits, and a page that needs no network."""
