"""Handlers, one module per group of paths."""
