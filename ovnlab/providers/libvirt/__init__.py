"""Nodes as virtual machines of libvirt."""
