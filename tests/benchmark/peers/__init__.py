"""Other projects that put a function behind HTTP, each as its documentation advises; `systems` has the table.

Each server is `python -m tests.benchmark.peers.NAME_server PORT WORKERS TASK…` in a virtual environment of its own.
"""
