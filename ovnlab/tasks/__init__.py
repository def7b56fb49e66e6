"""What is done on a node: plain functions on an invoke Context, which never learn what kind of node it is."""
