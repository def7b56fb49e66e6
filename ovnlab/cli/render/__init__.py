"""Results and snapshots as text, for people."""
