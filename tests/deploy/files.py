"""Readers of the files in `deploy/`: directives of nginx, keys of systemd, instructions of the Containerfile."""

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
    """Returns the arguments of each occurrence of a directive in the site file, in order."""
    text = without_comments(NGINX_SITE.read_text())
    return re.findall(rf"^\s*{directive}\s+([^;]+);", text, re.MULTILINE)


def nginx_map(variable: str) -> dict[str, str]:
    """Returns the rows of the `map` that sets the variable, unquoted."""
    text = without_comments(NGINX_SITE.read_text())
    block = re.search(rf"^map \S+ \${variable} {{\n(.*?)^}}", text, re.MULTILINE | re.DOTALL)
    assert block is not None, variable
    rows = re.findall(r"^\s*(\S+)\s+(.+);$", block[1], re.MULTILINE)
    return {_unquoted(key): _unquoted(value) for key, value in rows}


def nginx_size(text: str) -> int:
    """Returns the size in bytes."""
    number, unit = _split(text)
    return int(number) * _SIZES[unit.lower()]


def nginx_time_s(text: str) -> float:
    number, unit = _split(text)
    return int(number) * _TIMES_S[unit]


def unit_values() -> dict[str, str]:
    """Returns the keys of the unit's `[Service]` section; the last value of a repeated key."""
    parser = ConfigParser(strict=False, interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # the documented way to keep the case of keys
    parser.read_string(SYSTEMD_UNIT.read_text())
    return dict(parser["Service"])


def container_instructions(name: str) -> list[str]:
    """Returns the arguments of each occurrence of an instruction in the Containerfile, with continued lines joined."""
    text = without_comments(CONTAINERFILE.read_text()).replace("\\\n", " ")
    return [" ".join(found.split()) for found in re.findall(rf"^{name}\s+(.+)$", text, re.MULTILINE)]


def container_command(name: str) -> list[str]:
    """Returns the arguments of an instruction in exec form."""
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
