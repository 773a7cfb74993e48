"""Where a child process begins: the targets of the service's `multiprocessing` processes.

They are named by the service, which must not import what they need, pydantic for one; so each imports it in the child.
"""

from __future__ import annotations

from offload.wire.spec import DescribeSpec, WorkerSpec


def run_worker(spec: WorkerSpec) -> None:
    """See `worker.main`."""
    from offload.worker.main import serve

    serve(spec)


def run_describe(spec: DescribeSpec) -> None:
    """See `worker.describe`."""
    from offload.worker.describe import send_catalogue

    send_catalogue(spec)
