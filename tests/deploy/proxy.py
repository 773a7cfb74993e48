"""A real nginx with the repository's own site file, changed only in where it listens and what its upstream is.

It listens on a Unix socket, so it needs no free port.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

import aiohttp

from tests.deploy.files import NGINX_SITE
from tests.support.programs import needed_program
from tests.support.raw_http import RawConnection

BOUND_S: Final = 30.0

_MAIN: Final = """\
daemon off;
worker_processes 1;
pid {home}/nginx.pid;
error_log stderr;
{user}
events {{}}
http {{
    access_log off;
    client_body_temp_path {home}/bodies;
    proxy_temp_path {home}/results;
    fastcgi_temp_path {home}/unused;
    scgi_temp_path {home}/unused;
    uwsgi_temp_path {home}/unused;
    include {home}/site.conf;
}}
"""


def nginx_program() -> str:
    """Returns the program's path. Skips the test if it is not installed, or fails it if it is required."""
    return needed_program("nginx", "deploy/nginx/offload.conf is NOT tested (apt install nginx-light)")


class Proxy:
    """A running nginx."""

    def __init__(self, home: Path) -> None:
        self.socket = home / "front.sock"
        self._log = home / "error.log"

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def client(self) -> aiohttp.ClientSession:
        """Returns a client of nginx."""
        return aiohttp.ClientSession(
            "http://compute.example.com",
            connector=aiohttp.UnixConnector(str(self.socket)),
            timeout=aiohttp.ClientTimeout(total=BOUND_S),
        )

    @contextlib.asynccontextmanager
    async def raw(self) -> AsyncIterator[RawConnection]:
        """Opens a connection to nginx that sends and receives bytes."""
        reader, writer = await asyncio.open_unix_connection(self.socket)
        try:
            yield RawConnection(reader, writer)
        finally:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def nginx(upstream: str, *, changes: Mapping[str, str] | None = None) -> AsyncIterator[Proxy]:
    """Runs nginx in front of `upstream` ("127.0.0.1:8080", "unix:/path"), with `changes` to the site file."""
    program = nginx_program()
    # Not in pytest's directory, because the path of a Unix socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="offload-nginx-") as directory:
        home = Path(directory)
        proxy = Proxy(home)
        (home / "site.conf").write_text(_rendered(upstream, proxy.socket, changes or {}))
        # By default nginx's workers run as another user, who may not use the sockets that tests make.
        (home / "nginx.conf").write_text(_MAIN.format(home=home, user="" if os.geteuid() else "user root;"))
        with (home / "error.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                program, "-e", "stderr", "-p", home, "-c", home / "nginx.conf", stderr=log, start_new_session=True
            )
        try:
            await _wait_until_it_listens(process, proxy)
            yield proxy
        except BaseException:
            print(proxy.log)
            raise
        finally:
            if process.returncode is None:
                process.terminate()
            async with asyncio.timeout(BOUND_S):
                await process.wait()


def _rendered(upstream: str, front: Path, changes: Mapping[str, str]) -> str:
    site = NGINX_SITE.read_text()
    edits = {"server 127.0.0.1:8080;": f"server {upstream};", "listen 80;": f"listen unix:{front};", **changes}
    for old, new in edits.items():
        assert old in site, old
        site = site.replace(old, new)
    return re.sub(r"^\s*listen \[::\]:80;\n", "", site, flags=re.MULTILINE)


async def _wait_until_it_listens(process: asyncio.subprocess.Process, proxy: Proxy) -> None:
    async with asyncio.timeout(BOUND_S):
        while process.returncode is None:
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                _, writer = await asyncio.open_unix_connection(proxy.socket)
                writer.transport.abort()
                return
            await asyncio.sleep(0.01)
    raise AssertionError(f"nginx did not start:\n{proxy.log}")
