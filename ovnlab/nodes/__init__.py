"""Access to nodes: contexts that run commands, whatever kind of node it is."""
