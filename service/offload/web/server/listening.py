"""The sockets to listen on.

Lives here: making them before anything else is started, so that an address that cannot be had is told at once, in a
sentence.  They are bound and do not listen yet: nobody is let in before there is somebody to answer.
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

_WHAT_TO_DO: Final = {
    errno.EADDRINUSE: "it is in use; stop what listens there or choose another with --port",
    errno.EACCES: "not permitted; ports below 1024 are for root, choose another with --port",
    errno.EADDRNOTAVAIL: "this machine has no such address; choose another with --host",
    errno.EAFNOSUPPORT: "this machine has no addresses of this kind; choose another with --host",
}
# Where IPv6 is switched off, in the kernel or for the interface alone, "localhost" may still be ::1 as well.
_ABSENT: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


def bound_sockets(host: str, port: int, uds: str | None) -> list[socket.socket]:
    """One for each address of `host` that this machine has, and one for the path `uds`.  Raises BindError, also if it
    has none of them."""
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
    """Closes them, and takes the paths of Unix sockets away."""
    for sock in sockets:
        unlink(sock)
        sock.close()


def unlink(sock: socket.socket) -> None:
    """Takes the path of a Unix socket away, while it is still open: once it is closed, another service may have the
    path, and nobody can tell any more what it was."""
    if sock.family == socket.AF_UNIX and sock.fileno() >= 0:
        with suppress(OSError):
            os.unlink(sock.getsockname())


def shown_address(sock: socket.socket) -> str:
    """As somebody would type it: "http://127.0.0.1:8080", "unix:/run/offload.sock"."""
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
            told = BindError(f"{address[0]}:{address[1]}", _told(error))
            if error.errno not in _ABSENT:
                raise told from error
            absent = absent or told
            continue
        is_any_bound = True
        yield sock
        if port == 0:
            return  # with "any free port", a second address would get another one
    if absent is not None and not is_any_bound:
        raise absent


def _addresses(host: str, port: int) -> list[tuple[int, Any]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise BindError(host, f"the name is not known ({error.strerror}); choose another with --host") from error
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
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
    except OSError as error:
        sock.close()
        raise BindError(path, _told(error)) from error
    return sock


def _remove_stale(path: str) -> None:
    """A socket that nobody listens on was left by a service that was killed."""
    try:
        is_socket = stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return  # nothing is there, or binding will tell what is wrong
    if not is_socket:
        raise BindError(path, "there is a file which is no socket; take it away or choose another path with --uds")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError:
            return
        else:
            raise BindError(path, "another service listens on it; choose another path with --uds")


def _told(error: OSError) -> str:
    return _WHAT_TO_DO.get(error.errno or 0, error.strerror or str(error))
