"""The developers' benchmark: starts servers as processes, puts load on them over HTTP, and prints tables.

It knows what a caller sees and what the kernel reports about processes, and nothing of the inside of a server.
"""
