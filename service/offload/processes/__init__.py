"""Starts, watches and kills worker processes, and names their deaths, for every local engine."""
