"""The developers' benchmark: starts servers as processes, speaks HTTP to them, and prints tables.

It does not reach into the server.  It measures what a caller sees and what the kernel reports about processes.
"""
