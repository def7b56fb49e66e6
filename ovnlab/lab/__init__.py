"""A lab as a whole: how it comes up, changes and goes away, and its state."""
