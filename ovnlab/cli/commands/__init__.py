"""Commands: one module for each group. They parse, call and render; the logic is elsewhere."""
