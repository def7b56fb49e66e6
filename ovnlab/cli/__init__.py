"""The command line: one module a group of commands. They parse, call and render; the logic is elsewhere."""
