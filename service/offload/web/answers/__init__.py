"""Replies as values: outcomes of jobs, problems and their status codes, timing."""
