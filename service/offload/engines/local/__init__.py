"""Engines whose workers are processes of this machine, made for a pool or an executor of the standard library."""
