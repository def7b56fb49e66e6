"""Nodes as Linux namespaces on this machine, as root or as an ordinary user."""
