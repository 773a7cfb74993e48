"""What the interpreter keeps for the whole process and a job may change: only what is likely to break another job."""

from __future__ import annotations

import decimal  # pydantic has imported it
import gc
import multiprocessing
import socket
import sys
import threading
from typing import Any


class Interpreter:
    """Remembers the state when it is made."""

    def __init__(self) -> None:
        self.tracer, self.profiler = sys.gettrace(), sys.getprofile()
        self.thread_tracer, self.thread_profiler = threading.gettrace(), threading.getprofile()
        self.timeout = socket.getdefaulttimeout()
        self.collects = gc.isenabled()
        self.recursion = sys.getrecursionlimit()
        self.digits = sys.get_int_max_str_digits()
        self.start_method = multiprocessing.get_start_method(allow_none=True)
        self.decimal: Any = decimal.getcontext()
        self._decimal = self.decimal.copy()
        self._modules: dict[str, Any] = dict(sys.modules)
        self.module_count = len(sys.modules)

    def restore_tracing(self) -> None:
        """Remove tracers of the job. Comes first: a tracer is called for each Python function."""
        sys.settrace(self.tracer)
        sys.setprofile(self.profiler)

    def restore(self) -> None:
        threading.settrace(self.thread_tracer)
        threading.setprofile(self.thread_profiler)
        socket.setdefaulttimeout(self.timeout)
        (gc.enable if self.collects else gc.disable)()
        sys.setrecursionlimit(self.recursion)
        sys.set_int_max_str_digits(self.digits)
        multiprocessing.set_start_method(self.start_method, force=True)
        self.decimal = self._decimal.copy()
        decimal.setcontext(self.decimal)
        if len(sys.modules) < self.module_count:
            for name, module in self._modules.items():
                sys.modules.setdefault(name, module)
        self.module_count = len(sys.modules)
