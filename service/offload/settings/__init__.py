"""The settings: their table, what each may be, and where they are read from."""
