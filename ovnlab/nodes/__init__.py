"""How commands are run on nodes, whatever kind of node it is."""
