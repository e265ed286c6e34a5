"""One module per role: its prompt and the schema of its answer."""
