"""Starting, watching and killing worker processes, and naming their deaths, for every local engine."""
