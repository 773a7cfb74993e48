"""Passing descriptors between the service and one worker, beside the stream.

Each lane has a socket pair for this alone, because the event loop's transports do not send descriptors.

A descriptor is always sent before the frame that announces it, so the reader of the frame finds it there. Each is one
message (SOCK_SEQPACKET) with the number of its job: the two sides cannot get out of step unnoticed. On a stream, a
reader could take two descriptors at once.

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
    """Returns the service's end and the worker's end; None if the system has no memory that could be passed."""
    if not is_supported():
        return None
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send_descriptor(sock: socket.socket, number: int, descriptor: int) -> bool:
    """Send the descriptor of this job's bytes, without waiting; the caller may close it afterwards.

    Returns False if it could not be sent: the other side has hundreds unread or has ended, or this user has too many
    descriptors in transit (ETOOMANYREFS).
    """
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
    try:
        sock.sendmsg([_NUMBER.pack(number)], rights, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except OSError:
        return False
    return True


def receive_descriptor(sock: socket.socket, number: int) -> int:
    """Returns the descriptor that was sent for this job, without waiting; the caller closes it.

    Raises FrameError if it is missing or another job's. Raises OSError if this process has too many descriptors; then
    this one is lost.
    """
    flags = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
    try:
        data, rights, returned_flags, _ = sock.recvmsg(_NUMBER.size, socket.CMSG_LEN(_DESCRIPTOR_BYTES), flags)
    except BlockingIOError:
        raise FrameError("a descriptor was announced but not sent") from None
    descriptors = array.array("i", b"".join(part for _, kind, part in rights if kind == socket.SCM_RIGHTS))
    if data != _NUMBER.pack(number) or len(descriptors) != 1:
        for descriptor in descriptors:
            os.close(descriptor)
        if returned_flags & socket.MSG_CTRUNC and not descriptors:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        raise FrameError(f"received {len(descriptors)} descriptors with {data!r}, expected one with job {number}")
    return descriptors[0]
