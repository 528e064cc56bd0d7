"""Options of the commands: parsing, defaults, and the paper's tasks."""
