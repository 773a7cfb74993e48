"""Loads the user's modules once, in a process that workers are copies of: the forkserver, or the service (`fork`).

If the modules hold what copies cannot share, that process is not used for workers, and each worker loads the modules
itself. An error is kept for the workers to report.
"""

from __future__ import annotations

import gc
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Final

from offload.errors import TargetError, UserError
from offload.tasks.targets.loading import Registry, Target, load, targets_from_json
from offload.wire.spec import PRELOAD_VARIABLE
from offload.worker.finishing import finish_within, flush_files, take_over
from offload.worker.imports.as_program import arguments_of_program, name_of, plain_streams
from offload.worker.imports.descriptor_facts import reopen
from offload.worker.imports.holdings import can_be_copied, report, sentences
from offload.worker.imports.seeds import SeedWatch, seed_again
from offload.worker.imports.stock import Holdings, Stock, files_to_reopen, signal_handlers
from offload.worker.isolation import limit_library_threads, seed_anew
from offload.worker.prctl import die_with_parent_thread
from offload.worker.state.resource_limits import forget_resource_module
from offload.worker.state.signals import STOPPED, TIMERS

if TYPE_CHECKING:
    from offload.worker.imports.logging_apart import RootLogging

# How long exit functions of the user's modules may take in a process that is not used for workers.
_EXIT_S: Final = 1.0


class Loaded:
    """The tasks that this process or its parent has loaded, or the error, and what the modules hold.

    `is_for_copies`: workers will be copies of this process.
    """

    def __init__(self, targets: tuple[Target, ...], *, is_for_copies: bool) -> None:
        self.targets = targets
        self.owner = os.getpid()
        self.holdings = Holdings()
        self.root_logging: RootLogging | None = None
        self._seeds = SeedWatch()
        self._registry: Registry | None = None
        self._error: UserError | None = None
        forget_resource_module()
        try:
            with plain_streams() if is_for_copies else nullcontext():
                self._registry = load(targets, importing=self._importing)
        except UserError as error:
            self._error = error

    @property
    def registry(self) -> Registry:
        """Raises UserError."""
        if self._error is not None:
            raise self._error
        if self._registry is None:
            raise AssertionError("neither a registry nor an error")
        return self._registry

    @property
    def is_own(self) -> bool:
        """Whether this process has loaded them, not its parent."""
        return self.owner == os.getpid()

    @property
    def can_be_copied(self) -> bool:
        return can_be_copied(self.holdings.findings)

    def report(self, start_method: str) -> list[str]:
        """Returns what the user should know of what the modules hold, in sentences."""
        return report(self.holdings.findings, start_method=start_method)

    def become_own(self, *, is_of_service: bool) -> None:
        """Give this copy what it must not share with others. Raises TargetError."""
        if not is_of_service and not self.can_be_copied:
            problem = f"{' '.join(sentences(self.holdings.findings))}. It was not so at first"
            raise TargetError("", f"{problem}, and copies cannot share it; restart the service, or use `spawn`")
        # The service may have opened and closed files since.
        for file in files_to_reopen() if is_of_service else self.holdings.files:
            try:
                reopen(file)
            except OSError as error:
                raise TargetError("", f"a file that was open at import cannot be opened again: {error}") from error
        take_over(self.holdings.descriptors)
        for number, handler in self.holdings.signals.items():
            signal.signal(number, handler)
        if self.root_logging is not None:
            self.root_logging.apply()
        seed_anew()
        for generator in self.holdings.generators:
            seed_again(generator)

    @contextmanager
    def _importing(self, target: Target) -> Iterator[None]:
        stock = Stock()
        with arguments_of_program(target), self._seeds.watching():
            yield
        stock.add_to(self.holdings, name_of(target), self._seeds)


class _Process:
    """State of this process: inherited by its copies."""

    def __init__(self) -> None:
        self.loaded: list[Loaded] = []
        self.is_service = False


_process: Final = _Process()


def load_from_environment() -> None:
    """Load what PRELOAD_VARIABLE names. Only the forkserver calls this, once."""
    wanted = json.loads(os.environ.pop(PRELOAD_VARIABLE))
    # From here on this process ends with the service, even if importing a module hangs. Its children do not inherit
    # that; the guard ends them.
    die_with_parent_thread()
    if os.getppid() != wanted["service_pid"]:
        os._exit(1)  # the service ended before this took effect
    limit_library_threads(wanted["library_threads"])
    targets = targets_from_json(wanted["targets"])
    if targets:
        loaded = _load_for_copies(targets)
        if not loaded.can_be_copied:
            finish_within(_EXIT_S)  # only the description of the tasks is still needed
    gc.freeze()


def load_in_service(targets: tuple[Target, ...]) -> None:
    """Load the targets in the service: workers will be forked from it.

    Another process has found that it can be copied then. What else is opened here meanwhile is the application's.
    """
    from offload.worker.imports.logging_apart import logging_apart  # late: workers need no logging

    _process.is_service = True
    before = signal_handlers()
    with logging_apart() as root_logging:
        loaded = _load_for_copies(targets)
    loaded.root_logging = root_logging
    gc.unfreeze()
    for number in loaded.holdings.signals:
        signal.signal(number, before[number])


def loaded_or_load(targets: tuple[Target, ...]) -> Loaded:
    """Returns the targets as loaded by the parent, or loaded now."""
    inherited = _inherited(targets)
    return Loaded(targets, is_for_copies=False) if inherited is None else inherited


def load_targets(targets: tuple[Target, ...]) -> Registry:
    """Returns the tasks of `targets`, as loaded by the parent or loaded now. Raises UserError."""
    inherited = _inherited(targets)
    if inherited is None:
        forget_resource_module()
        return load(targets, importing=arguments_of_program)
    registry = inherited.registry
    inherited.become_own(is_of_service=_process.is_service)
    return registry


def inherited_descriptors() -> set[int]:
    """Returns what the user's modules opened in the forkserver. In a fork of the service they cannot be told apart."""
    return set() if _process.is_service else {n for loaded in _process.loaded for n in loaded.holdings.descriptors}


def _load_for_copies(targets: tuple[Target, ...]) -> Loaded:
    stopped = [timer for timer in TIMERS if signal.getitimer(timer) == STOPPED]
    loaded = Loaded(targets, is_for_copies=True)
    for timer in stopped:
        signal.setitimer(timer, 0)  # copies do not have it; it would end this process, which has not its handler
    flush_files()  # or each copy would write what is buffered
    _process.loaded = [*(other for other in _process.loaded if other.targets != targets), loaded]
    return loaded


def _inherited(targets: tuple[Target, ...]) -> Loaded | None:
    return next((loaded for loaded in _process.loaded if loaded.targets == targets and not loaded.is_own), None)
