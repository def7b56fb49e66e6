"""Providers make the machines that a lab's nodes are."""
