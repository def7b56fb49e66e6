"""Tasks: plain functions on a context, which never learn what kind of node it is."""
