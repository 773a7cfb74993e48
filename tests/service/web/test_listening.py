"""A name may have several addresses. The service listens on those that this machine has."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from offload.errors import BindError
from offload.web.server.listening import bound_sockets, close_all

HERE = (socket.AF_INET, "127.0.0.1")
# From the block for documentation (RFC 3849), which no machine has.
NOT_HERE = (socket.AF_INET6, "2001:db8::1")
# A family that no kernel has: `socket` reports the same error for IPv6 where the kernel lacks it.
UNKNOWN_FAMILY = (200, "::1")

Resolving = Callable[..., None]


@pytest.fixture
def names_resolve_to(monkeypatch: pytest.MonkeyPatch) -> Resolving:
    """Make every name resolve to these addresses."""

    def resolve_to(*addresses: tuple[int, str]) -> None:
        def resolve(host: str, port: int, **_: object) -> list[object]:
            return [(family, socket.SOCK_STREAM, 0, "", (address, port)) for family, address in addresses]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)

    return resolve_to


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


@pytest.mark.parametrize("absent", [NOT_HERE, UNKNOWN_FAMILY], ids=["no such address", "no IPv6 in the kernel"])
@pytest.mark.parametrize("is_first", [True, False])
def test_an_address_that_this_machine_does_not_have_is_skipped(
    names_resolve_to: Resolving, free_port: int, absent: tuple[int, str], is_first: bool
) -> None:
    names_resolve_to(*([absent, HERE] if is_first else [HERE, absent]))
    for port in (free_port, 0):
        sockets = bound_sockets("localhost", port, None)
        assert [sock.getsockname()[0] for sock in sockets] == ["127.0.0.1"]
        close_all(sockets)


@pytest.mark.parametrize(
    ("absent", "message"),
    [
        (
            NOT_HERE,
            "cannot listen on 2001:db8::1:0: this machine does not have the address; choose another with --host",
        ),
        (
            UNKNOWN_FAMILY,
            "cannot listen on ::1:0: this machine does not support addresses of this family; "
            "choose another with --host",
        ),
    ],
)
def test_a_name_without_any_local_address_is_an_error(
    names_resolve_to: Resolving, absent: tuple[int, str], message: str
) -> None:
    names_resolve_to(absent)
    with pytest.raises(BindError) as caught:
        bound_sockets("localhost", 0, None)
    assert str(caught.value) == message


def test_an_address_in_use_is_an_error_even_if_another_is_free(names_resolve_to: Resolving, taken_port: int) -> None:
    names_resolve_to((socket.AF_INET, "127.0.0.2"), HERE)
    with pytest.raises(BindError, match=rf"127\.0\.0\.1:{taken_port}: the address is in use"):
        bound_sockets("localhost", taken_port, None)


def test_port_zero_binds_one_address_only(names_resolve_to: Resolving) -> None:
    """A second address would get another port."""
    names_resolve_to(HERE, (socket.AF_INET, "127.0.0.2"))
    (sock,) = bound_sockets("localhost", 0, None)
    close_all([sock])
