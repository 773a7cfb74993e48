"""The short-lived process that loads the targets and sends the service the catalogue of tasks, or an error.

It is the target of a `multiprocessing.Process`: the service itself must not load the user's code before it knows what
the import does.
"""

from __future__ import annotations

import os
import socket
import sys

import orjson

from offload.errors import TargetError, UserError
from offload.tasks.catalogue import describe
from offload.wire.frames import FrameKind, pack_answer
from offload.wire.spec import DescribeSpec
from offload.worker.channel import Channel
from offload.worker.finishing import finish
from offload.worker.imports.preload import inherited_descriptors, loaded_or_load
from offload.worker.isolation import detach, limit_library_threads
from offload.worker.program import become_program


def send_catalogue(spec: DescribeSpec) -> None:
    """Send one CATALOGUE frame, or START_FAILED with [target, problem, stack] as JSON.

    The meta of CATALOGUE is [whether workers may be copies, sentences about what the modules hold] as JSON.
    """
    detach(keep={spec.channel.fileno(), *inherited_descriptors()}, start_method=spec.start_method)
    become_program(spec.load.targets, start_method=spec.start_method)
    limit_library_threads(spec.load.library_threads)
    meta, loaded = b"", loaded_or_load(spec.load.targets)
    try:
        kind, body = FrameKind.CATALOGUE, describe(loaded.registry)
        meta = orjson.dumps([loaded.can_be_copied, loaded.report(spec.start_method)])
    except TargetError as error:
        kind, body = FrameKind.START_FAILED, orjson.dumps([error.target, error.problem, error.stack])
    except UserError as error:
        kind, body = FrameKind.START_FAILED, orjson.dumps(["", str(error)])
    Channel(spec.channel).write(pack_answer(kind, meta_bytes=len(meta), body_bytes=len(body)), meta, body)
    sys.stdout.flush()
    sys.stderr.flush()
    # The service has everything; from here on it kills this process if its end takes long. Closing would not be enough:
    # a process that the user's modules forked has the channel as well.
    spec.channel.shutdown(socket.SHUT_WR)
    if loaded.is_own:
        finish()
    os._exit(0)  # threads that the user's modules started must not delay the end
