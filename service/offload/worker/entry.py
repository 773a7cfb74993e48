"""The entry points of the service's `multiprocessing` processes.

The service imports this module, but not what the child needs, such as pydantic; so each function imports it late.
"""

from __future__ import annotations

from offload.wire.spec import DescribeSpec, WorkerSpec


def run_worker(spec: WorkerSpec) -> None:
    """Run a worker, see `worker.main`."""
    from offload.worker.finishing import finish
    from offload.worker.main import serve

    serve(spec)
    finish()


def run_describe(spec: DescribeSpec) -> None:
    """Describe the tasks, see `worker.describe`."""
    from offload.worker.describe import send_catalogue

    send_catalogue(spec)
