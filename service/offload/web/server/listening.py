"""Binds the listening sockets.

They are bound before anything else starts, so that an unusable address is reported at once. They do not listen before
the service can answer.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, Final

from offload.errors import BindError

_PROBLEM_TEXTS: Final = {
    errno.EADDRINUSE: "the address is in use; stop the process that listens there, or choose another port with --port",
    errno.EACCES: "permission denied; ports below 1024 are reserved for root, choose another with --port",
    errno.EADDRNOTAVAIL: "this machine does not have the address; choose another with --host",
    errno.EAFNOSUPPORT: "this machine does not support addresses of this family; choose another with --host",
}
_UNIX_PROBLEM_TEXTS: Final = {
    errno.EACCES: "permission denied; choose another path with --uds",
    errno.EADDRINUSE: "the path exists and is not a socket of a service that has ended; choose another with --uds",
    errno.EPERM: "permission denied; choose another path with --uds",
}
# Where IPv6 is disabled, "localhost" may still resolve to ::1 as well.
_ABSENT: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


def bound_sockets(host: str, port: int, uds: str | None) -> list[socket.socket]:
    """Returns a socket for each address of `host` that this machine has, and one for the path `uds`.

    Raises BindError, also if the machine has none of the addresses.
    """
    sockets: list[socket.socket] = []
    try:
        for sock in _tcp_sockets(host, port):
            sockets.append(sock)
        if uds is not None:
            sockets.append(_unix(uds))
    except BaseException:
        close_all(sockets)
        raise
    return sockets


def close_all(sockets: Iterable[socket.socket]) -> None:
    """Close the sockets and remove the paths of Unix sockets."""
    for sock in sockets:
        unlink(sock)
        sock.close()


def unlink(sock: socket.socket) -> None:
    """Remove the path of a Unix socket that is still open: after closing, the path may belong to another service."""
    if sock.family == socket.AF_UNIX and sock.fileno() >= 0:
        with suppress(OSError):
            os.unlink(sock.getsockname())


def shown_address(sock: socket.socket) -> str:
    """Returns the address as a user would type it: "http://127.0.0.1:8080", "unix:/run/offload.sock"."""
    if sock.family == socket.AF_UNIX:
        return f"unix:{sock.getsockname()}"
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _tcp_sockets(host: str, port: int) -> Iterator[socket.socket]:
    absent: BindError | None = None
    is_any_bound = False
    for family, address in _addresses(host, port):
        try:
            sock = _tcp(family, address)
        except OSError as error:
            unusable = BindError(f"{address[0]}:{address[1]}", _problem_text(error))
            if error.errno not in _ABSENT:
                raise unusable from error
            absent = absent or unusable
            continue
        is_any_bound = True
        yield sock
        if port == 0:
            return  # a second address would get another free port
    if absent is not None and not is_any_bound:
        raise absent


def _addresses(host: str, port: int) -> list[tuple[int, Any]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise BindError(host, f"unknown host name ({error.strerror}); choose another with --host") from error
    except UnicodeError as error:  # an empty or too long part
        raise BindError(host, "not a host name; choose another with --host") from error
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _tcp(family: int, address: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock


def _unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        sock.bind(path)
    except OSError as error:
        sock.close()
        text = _UNIX_PROBLEM_TEXTS.get(error.errno or 0, error.strerror or str(error))
        raise BindError(path, text) from error
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_stale(path: str) -> None:
    """Remove a socket that a killed service left: one without a listener."""
    try:
        is_socket = stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return  # the path does not exist, or binding reports the error
    if not is_socket:
        raise BindError(path, "the path is a file, not a socket; remove it or choose another path with --uds")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError:
            return
        else:
            raise BindError(path, "another service listens on this path; choose another with --uds")


def _problem_text(error: OSError) -> str:
    return _PROBLEM_TEXTS.get(error.errno or 0, error.strerror or str(error))
