"""Writes what a task returns: exactly, or not at all."""
