"""Where settings come from: command line, then `OFFLOAD_*` variables, then a TOML file, then the defaults.

Lives here: reading the three by the table in `settings`, and collecting every fault, so that all are told together,
each by the name that the user wrote.  What a setting may be is not known here.  `serve` is the caller.
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

# Kubernetes sets these in every container beside a Service whose name begins with "offload".  Nobody wrote them for us.
# Source: the page "Service" of its documentation, "Environment variables".
_KUBERNETES_NAME: Final = re.compile(
    r"OFFLOAD_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)", re.ASCII
)
_KUBERNETES_PORT: Final = re.compile(r"(tcp|udp|sctp)://.*")


def load_settings(flags: Mapping[str, str | bool], environ: Mapping[str, str], config: str | None = None) -> Settings:
    """The settings of one run.  `flags`: what stood on the command line, by setting.  `config`: the file's path.

    An empty variable counts as not set, since that is how service managers and compose files leave one out.
    Raises SettingsError with every fault of every source, also of a value that another source overrides.
    """
    variables = {
        name: value
        for name, value in environ.items()
        if name.startswith(_PREFIX) and value and name not in PRIVATE_VARIABLES and not _is_of_kubernetes(name, value)
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
    """Values and faults, gathered from the weakest source to the strongest."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.faults: list[str] = []
        self._settings = {setting.name: setting for setting in table()}

    def take_file(self, path: str) -> None:
        try:
            with open(path, "rb") as file:
                content = tomllib.load(file)
        except OSError as error:
            self.faults.append(f"{CONFIG_FLAG} {path}: {error.strerror or error}")
            return
        except (ValueError, RecursionError) as error:
            self.faults.append(f"{CONFIG_FLAG} {path}: not a TOML file: {error}")
            return
        written: dict[str, str] = {}
        for key, value in content.items():
            name = key.replace("-", "_")
            setting = self._settings.get(name)
            origin = f"{key} in {path}"
            if setting is None:
                self.faults.append(_unknown(origin, "setting", key, [one.replace("_", "-") for one in self._settings]))
            elif name in written:
                self.faults.append(f"{origin} is there already as {written[name]}")
            else:
                written[name] = key
                self._take(setting, origin, value)

    def take_variables(self, variables: Mapping[str, str]) -> None:
        by_variable = {setting.variable: setting for setting in self._settings.values()}
        for name, value in variables.items():
            setting = by_variable.get(name)
            if setting is None:
                self.faults.append(_unknown(name, "variable", name, [*by_variable, CONFIG_VARIABLE]))
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


def _unknown(origin: str, thing: str, name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"{origin} is no {thing} of ours" + (f"; did you mean {near[0]}?" if near else "")


def _is_of_kubernetes(name: str, value: str) -> bool:
    if name.endswith("_PORT") and _KUBERNETES_PORT.fullmatch(value):
        return True
    return _KUBERNETES_NAME.fullmatch(name) is not None
