"""The settings: the table of what can be set, the kinds of values, and the sources they are read from."""
