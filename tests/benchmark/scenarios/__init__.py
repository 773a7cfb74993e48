"""The scenarios: each measures systems in rounds and returns a report."""
