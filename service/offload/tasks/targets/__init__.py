"""Finds the files and modules to serve, imports them, and says why one cannot be served."""
