"""Passing descriptors between the service and one worker, beside the stream.

Lives here: sending and receiving one descriptor with the number of its job, over a socket pair of its own that each
lane has for nothing else.  The event loop's transports send no descriptors, so this goes around them.

A descriptor is always sent before the frame that speaks of it, so whoever reads the frame finds it there.  Each is a
message by itself (SOCK_SEQPACKET) and says whose it is: the two sides cannot get out of step without knowing it, and a
stream's reader could take two at once.

Source: unix(7), SCM_RIGHTS; cmsg(3).
"""

from __future__ import annotations

import array
import errno
import os
import socket
import struct
from typing import Final

from offload.errors import FrameError
from offload.wire.shared_bytes import is_supported

_NUMBER: Final = struct.Struct("<Q")
_DESCRIPTOR_BYTES: Final = array.array("i").itemsize


def make_pair() -> tuple[socket.socket, socket.socket] | None:
    """The service's end and the worker's; None where there is no memory that could be passed."""
    if not is_supported():
        return None
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send_descriptor(sock: socket.socket, number: int, descriptor: int) -> bool:
    """Sends the descriptor of this job's bytes; ours may be closed afterwards.  Waits for nothing.

    False: it could not be sent, and nobody will receive it.  The other side is hundreds behind, or gone, or this user
    has too many descriptors on their way (ETOOMANYREFS).
    """
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
    try:
        sock.sendmsg([_NUMBER.pack(number)], rights, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except OSError:
        return False
    return True


def receive_descriptor(sock: socket.socket, number: int) -> int:
    """The descriptor that was sent for this job, to be closed by whoever asked.  Waits for nothing.

    Raises FrameError if there is none, or another job's.  Raises OSError if this process may have no more descriptors;
    then this one is lost.
    """
    flags = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
    try:
        data, rights, told, _ = sock.recvmsg(_NUMBER.size, socket.CMSG_LEN(_DESCRIPTOR_BYTES), flags)
    except BlockingIOError:
        raise FrameError("a descriptor was announced and not sent") from None
    descriptors = array.array("i", b"".join(part for _, kind, part in rights if kind == socket.SCM_RIGHTS))
    if data != _NUMBER.pack(number) or len(descriptors) != 1:
        for descriptor in descriptors:
            os.close(descriptor)
        if told & socket.MSG_CTRUNC and not descriptors:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        raise FrameError(f"{len(descriptors)} descriptors came with {data!r} instead of one with job {number}")
    return descriptors[0]
