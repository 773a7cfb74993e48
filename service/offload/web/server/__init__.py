"""Connections, listening sockets and the access log."""
