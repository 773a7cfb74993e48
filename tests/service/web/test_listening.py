"""The addresses of a name: those that this machine has are listened on, the others are no reason not to start."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from offload.errors import BindError
from offload.web.server.listening import bound_sockets, close_all

HERE = (socket.AF_INET, "127.0.0.1")
# Of the block for examples (RFC 3849): on no machine, whether its kernel speaks IPv6 or not.
NOT_HERE = (socket.AF_INET6, "2001:db8::1")
# What `socket` says of IPv6 where the kernel lacks it, it says here of a family that no kernel has.
UNKNOWN_KIND = (200, "::1")

Named = Callable[..., None]


@pytest.fixture
def name_stands_for(monkeypatch: pytest.MonkeyPatch) -> Named:
    """Has every name stand for these addresses."""

    def stand_for(*addresses: tuple[int, str]) -> None:
        def resolve(host: str, port: int, **_: object) -> list[object]:
            return [(family, socket.SOCK_STREAM, 0, "", (address, port)) for family, address in addresses]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)

    return stand_for


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


@pytest.mark.parametrize("absent", [NOT_HERE, UNKNOWN_KIND], ids=["no such address", "no IPv6 in the kernel"])
@pytest.mark.parametrize("is_first", [True, False])
def test_an_address_that_this_machine_lacks_is_left_out(
    name_stands_for: Named, free_port: int, absent: tuple[int, str], is_first: bool
) -> None:
    name_stands_for(*([absent, HERE] if is_first else [HERE, absent]))
    for port in (free_port, 0):
        sockets = bound_sockets("localhost", port, None)
        assert [sock.getsockname()[0] for sock in sockets] == ["127.0.0.1"]
        close_all(sockets)


@pytest.mark.parametrize(
    ("absent", "told"),
    [
        (NOT_HERE, "cannot listen on 2001:db8::1:0: this machine has no"),
        (UNKNOWN_KIND, "cannot listen on ::1:0: this machine has no addresses of this kind"),
    ],
)
def test_if_it_has_none_of_them_that_is_told(name_stands_for: Named, absent: tuple[int, str], told: str) -> None:
    name_stands_for(absent)
    with pytest.raises(BindError) as caught:
        bound_sockets("localhost", 0, None)
    assert str(caught.value).startswith(told)


def test_an_address_in_use_is_told_though_another_is_free(name_stands_for: Named, taken_port: int) -> None:
    name_stands_for((socket.AF_INET, "127.0.0.2"), HERE)
    with pytest.raises(BindError, match=rf"127\.0\.0\.1:{taken_port}: the address is in use"):
        bound_sockets("localhost", taken_port, None)


def test_with_any_free_port_one_address_is_listened_on(name_stands_for: Named) -> None:
    """A second one would have another port."""
    name_stands_for(HERE, (socket.AF_INET, "127.0.0.2"))
    (sock,) = bound_sockets("localhost", 0, None)
    close_all([sock])
