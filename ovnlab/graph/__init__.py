"""Pictures of a lab: what there is (`picture`), and the three languages that it is drawn in."""
