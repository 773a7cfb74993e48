"""The load tester: starts servers as processes of their own, speaks HTTP to them, and prints tables.

It may not reach into the server.  What is measured is what a caller sees, and what the kernel says about processes.
"""
