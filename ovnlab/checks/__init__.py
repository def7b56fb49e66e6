"""Checks of a lab: what its state and its packets say, as results."""
