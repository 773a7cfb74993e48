"""Reads settings from the command line, `OFFLOAD_*` variables and a TOML file; an earlier source overrides a later one.

The faults of all sources are reported together, each with the name that the user wrote.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from offload.errors import SettingsError
from offload.settings.table import PRIVATE_VARIABLES, Setting, Settings, table

CONFIG_FLAG: Final = "--config"
CONFIG_VARIABLE: Final = "OFFLOAD_CONFIG"
_PREFIX: Final = "OFFLOAD_"

# Kubernetes sets these in every container next to a Service whose name begins with "offload"; they are not settings.
# Source: Kubernetes documentation, "Service", "Environment variables".
_KUBERNETES_NAME: Final = re.compile(
    r"OFFLOAD_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)", re.ASCII
)
_KUBERNETES_PORT: Final = re.compile(r"(tcp|udp|sctp)://.*")


def load_settings(flags: Mapping[str, str | bool], environ: Mapping[str, str], config: str | None = None) -> Settings:
    """Returns the settings of one run.

    `flags` are the values on the command line, by name of the setting. `config` is the path of the TOML file. An empty
    variable counts as not set, because service managers and compose files leave one out this way. Raises SettingsError
    with every fault of every source, including those of values that another source overrides.
    """
    variables = {
        name: value
        for name, value in environ.items()
        if name.startswith(_PREFIX)
        and value
        and name not in PRIVATE_VARIABLES
        and not _is_set_by_kubernetes(name, value)
    }
    path = config or variables.get(CONFIG_VARIABLE)
    variables.pop(CONFIG_VARIABLE, None)
    reading = _Reading()
    if path is not None:
        reading.take_file(path)
    reading.take_variables(variables)
    reading.take_flags(flags)
    if reading.faults:
        raise SettingsError(reading.faults)
    return Settings(**reading.values)


class _Reading:
    """Values and faults, collected from the weakest source to the strongest."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.faults: list[str] = []
        self._settings = {setting.name: setting for setting in table()}

    def take_file(self, path: str) -> None:
        try:
            with open(path, "rb") as file:
                content = tomllib.load(file)
        except OSError as error:
            self.faults.append(f"cannot read the settings file {path}: {error.strerror or error}")
            return
        except (ValueError, RecursionError) as error:
            self.faults.append(f"the settings file {path} is not valid TOML: {error}")
            return
        written: dict[str, str] = {}
        for key, value in content.items():
            name = key.replace("-", "_")
            setting = self._settings.get(name)
            if setting is None:
                known = [one.replace("_", "-") for one in self._settings]
                self.faults.append(f"unknown setting {key!r} in {path}{suggestion(key, known)}")
            elif name in written:
                self.faults.append(f"{key!r} in {path} is already set as {written[name]!r}; remove one of them")
            else:
                written[name] = key
                self._take(setting, f"{key} in {path}", value)

    def take_variables(self, variables: Mapping[str, str]) -> None:
        by_variable = {setting.variable: setting for setting in self._settings.values()}
        for name, value in variables.items():
            setting = by_variable.get(name)
            if setting is None:
                self.faults.append(f"unknown variable {name!r}{suggestion(name, [*by_variable, CONFIG_VARIABLE])}")
            else:
                self._take(setting, name, value)

    def take_flags(self, flags: Mapping[str, str | bool]) -> None:
        for name, value in flags.items():
            setting = self._settings[name]
            self._take(setting, setting.flag, value)

    def _take(self, setting: Setting, origin: str, value: object) -> None:
        try:
            self.values[setting.name] = setting.kind.read(value)
        except (ValueError, OverflowError):
            self.faults.append(setting.fault(origin, value))


def suggestion(name: str, known: Iterable[str]) -> str:
    """Returns "; did you mean …?" with the most similar name, empty if none is similar."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _is_set_by_kubernetes(name: str, value: str) -> bool:
    if name.endswith("_PORT") and _KUBERNETES_PORT.fullmatch(value):
        return True
    return _KUBERNETES_NAME.fullmatch(name) is not None
