"""Insight: what OVN means to do with a packet, what the switches do with it, and what is seen on the wire."""
