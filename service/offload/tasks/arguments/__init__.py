"""Reads the arguments of a job from its body and query string, and validates them."""
