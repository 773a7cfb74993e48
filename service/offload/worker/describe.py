"""The short-lived process that loads the targets and sends the service the catalogue of tasks, or an error.

It is the target of a `multiprocessing.Process`, because the service never loads the user's code.
"""

from __future__ import annotations

import os
import sys

import orjson

from offload.errors import TargetError, UserError
from offload.tasks.catalogue import describe
from offload.wire.frames import FrameKind, pack_answer
from offload.wire.spec import DescribeSpec
from offload.worker.channel import Channel
from offload.worker.isolation import detach, limit_library_threads
from offload.worker.preload import load_targets


def send_catalogue(spec: DescribeSpec) -> None:
    """Send one CATALOGUE frame, or START_FAILED with [target, problem, stack] as JSON."""
    detach(keep=[spec.channel.fileno()], start_method=spec.start_method)
    limit_library_threads(spec.load.library_threads)
    try:
        kind, body = FrameKind.CATALOGUE, describe(load_targets(spec.load.targets))
    except TargetError as error:
        kind, body = FrameKind.START_FAILED, orjson.dumps([error.target, error.problem, error.stack])
    except UserError as error:
        kind, body = FrameKind.START_FAILED, orjson.dumps(["", str(error)])
    Channel(spec.channel).write(pack_answer(kind, body_bytes=len(body)), body=body)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # threads that the user's modules started must not delay the end
