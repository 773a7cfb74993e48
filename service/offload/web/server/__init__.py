"""Connections, listening sockets, sending of replies and the access log."""
