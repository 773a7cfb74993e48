"""The files below `deploy/`, read as far as the tests need to.

Lives here: where they are, and what a directive, a key or an instruction in them says.  Nothing here knows which
numbers are right.
"""

from __future__ import annotations

import json
import re
import shlex
from configparser import ConfigParser
from pathlib import Path
from typing import Final

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
NGINX_SITE: Final = DEPLOY / "nginx" / "offload.conf"
SYSTEMD_UNIT: Final = DEPLOY / "systemd" / "offload.service"
CONTAINERFILE: Final = DEPLOY / "container" / "Containerfile"
README: Final = DEPLOY / "README.md"

_SIZES: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_TIMES_S: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def without_comments(text: str) -> str:
    return re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)


def nginx_values(directive: str) -> list[str]:
    """The arguments of a directive, wherever in the site file it stands, in their order."""
    text = without_comments(NGINX_SITE.read_text())
    return re.findall(rf"^\s*{directive}\s+([^;]+);", text, re.MULTILINE)


def nginx_map(variable: str) -> dict[str, str]:
    """The rows of the `map` that gives the variable its value, without their quotes."""
    text = without_comments(NGINX_SITE.read_text())
    block = re.search(rf"^map \S+ \${variable} {{\n(.*?)^}}", text, re.MULTILINE | re.DOTALL)
    assert block is not None, variable
    rows = re.findall(r"^\s*(\S+)\s+(.+);$", block[1], re.MULTILINE)
    return {_unquoted(key): _unquoted(value) for key, value in rows}


def nginx_size(text: str) -> int:
    """Bytes."""
    number, unit = _split(text)
    return int(number) * _SIZES[unit.lower()]


def nginx_time_s(text: str) -> float:
    number, unit = _split(text)
    return int(number) * _TIMES_S[unit]


def unit_values() -> dict[str, str]:
    """The keys of the unit's `[Service]` section; of one that is there twice, the last."""
    parser = ConfigParser(strict=False, interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # keys keep their case, as documented
    parser.read_string(SYSTEMD_UNIT.read_text())
    return dict(parser["Service"])


def container_instructions(name: str) -> list[str]:
    """What follows an instruction, wherever in the Containerfile it stands, continued lines put together."""
    text = without_comments(CONTAINERFILE.read_text()).replace("\\\n", " ")
    return [" ".join(found.split()) for found in re.findall(rf"^{name}\s+(.+)$", text, re.MULTILINE)]


def container_command(name: str) -> list[str]:
    """The arguments of an instruction in its exec form."""
    [text] = container_instructions(name)
    command: list[str] = json.loads(text[text.index("[") :])
    return command


def container_environment() -> dict[str, str]:
    return dict(word.split("=", 1) for text in container_instructions("ENV") for word in shlex.split(text))


def _split(text: str) -> tuple[str, str]:
    found = re.fullmatch(r"(\d+)([A-Za-z]*)", text)
    assert found is not None, text
    return found[1], found[2]


def _unquoted(text: str) -> str:
    return text[1:-1].replace("\\'", "'") if text[:1] in ("'", '"') else text
