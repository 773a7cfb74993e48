"""Notes which generators of `random` are seeded while the user's modules are imported.

A generator without a seed is seeded again in each copy of the process. One with a seed is not: the seed may be a
constant, which holds in each worker, or the time. Only another import makes the right one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from weakref import WeakSet

# As functions, so that a subclass which overrides the method does not matter.
_seed: Final[Callable[..., None]] = random.Random.seed
_set_state: Final[Callable[..., None]] = random.Random.setstate


class SeedWatch:
    """`is_common_seeded`: the modules have seeded the generator behind the functions of `random`."""

    def __init__(self) -> None:
        self.is_common_seeded = False
        self._unseeded: WeakSet[random.Random] = WeakSet()

    def is_unseeded(self, generator: random.Random) -> bool:
        """Whether it certainly has no seed of the user."""
        return generator in self._unseeded

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the functions and methods of `random`, which modules may keep."""
        common = vars(random)
        before = {name: common[name] for name in ("seed", "setstate")}

        def seed(generator: random.Random, *arguments: Any, **named: Any) -> None:
            _seed(generator, *arguments, **named)
            has_seed = [*arguments, named.get("a")][0] is not None
            self._note(generator, has_seed=has_seed)

        def set_state(generator: random.Random, state: Any) -> None:
            _set_state(generator, state)
            self._note(generator, has_seed=True)

        owner: Any = before["seed"].__self__
        _replace(random.Random, seed=seed, setstate=set_state)
        common.update(seed=owner.seed, setstate=owner.setstate)
        self._unseeded.add(owner)
        try:
            yield
        finally:
            common.update(before)
            _replace(random.Random, seed=_seed, setstate=_set_state)
            self.is_common_seeded |= owner not in self._unseeded

    def _note(self, generator: random.Random, *, has_seed: bool) -> None:
        (self._unseeded.discard if has_seed else self._unseeded.add)(generator)


def seed_again(generator: random.Random) -> None:
    """Seed a generator from the system's entropy."""
    _seed(generator)


def _replace(cls: type, **methods: Any) -> None:
    for name, method in methods.items():
        setattr(cls, name, method)
