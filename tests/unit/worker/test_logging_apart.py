"""What a module does to logging at its import does not touch the service's."""

from __future__ import annotations

import logging
import logging.config
from collections.abc import Callable, Iterator

import pytest

from offload.worker.imports.logging_apart import logging_apart


class Service(logging.Handler):
    """A handler of the service, which counts."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []
        self.is_closed = False

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())

    def close(self) -> None:
        self.is_closed = True
        super().close()


@pytest.fixture
def service() -> Iterator[Service]:
    handler = Service()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)
    handler.close()


def configure_basic() -> None:
    logging.basicConfig(level=logging.DEBUG)


def configure_by_force() -> None:
    logging.basicConfig(level=logging.DEBUG, force=True)


def configure_all() -> None:
    handlers = {"h": {"class": "logging.StreamHandler"}}
    logging.config.dictConfig({"version": 1, "handlers": handlers, "root": {"handlers": ["h"], "level": "DEBUG"}})


CONFIGURE = pytest.mark.parametrize("configure", [configure_basic, configure_by_force, configure_all])


@CONFIGURE
def test_the_services_logging_stays_as_it_is(configure: Callable[[], None], service: Service) -> None:
    logger, root = logging.getLogger("offload.service_of_this_test"), logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    with logging_apart():
        configure()
    logger.warning("still here")
    assert service.messages == ["still here"]
    assert not service.is_closed
    assert (root.level, root.handlers) == (level, handlers)


@CONFIGURE
def test_the_modules_logging_holds_in_a_copy(configure: Callable[[], None], service: Service) -> None:
    with logging_apart() as made:
        configure()
    assert made.level == logging.DEBUG
    assert [type(handler) for handler in made.handlers] == [logging.StreamHandler]


def test_disabling_logging_disables_that_of_the_module(service: Service) -> None:
    with logging_apart() as made:
        logging.disable(logging.CRITICAL)
    logging.getLogger("offload.service_of_this_test").warning("still here")
    assert service.messages == ["still here"]
    assert made.disabled_level == logging.CRITICAL
