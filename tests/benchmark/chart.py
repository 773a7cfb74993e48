"""A line chart as SVG: what the overload scenario draws for the README.

Lives here: pure text from numbers, with the few shapes that it needs.  Colours are readable on light and dark ground.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

_WIDTH: Final = 720
_HEIGHT: Final = 360
_LEFT: Final = 60
_RIGHT: Final = 150  # for the names of the lines, which stand at their ends
_TOP: Final = 40
_BOTTOM: Final = 50
_GREY: Final = "#808080"
_COLOURS: Final = ("#1a7f37", "#cf222e", "#8250df", "#0969da", "#bc4c00")
_FONT: Final = "font-family='sans-serif' font-size='13'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """`lines` by name, each a y for every x; `y_max` is the top, the bottom is 0.  `y_ticks` are marked and named."""

    title: str
    x_title: str
    xs: Sequence[float]
    lines: Mapping[str, Sequence[float]]
    y_max: float
    y_ticks: Mapping[float, str]

    def svg(self) -> str:
        shapes = [*self._grid(), *self._lines()]
        head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img'>"
        return "\n".join([head, f"<title>{escape(self.title)}</title>", *shapes, "</svg>"]) + "\n"

    def _x(self, place: int) -> float:
        """Steps of equal width, whatever lies between them."""
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * place / max(len(self.xs) - 1, 1)

    def _y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * min(value, self.y_max) / self.y_max

    def _grid(self) -> list[str]:
        right = _WIDTH - _RIGHT
        shapes = [_text(_LEFT, _TOP - 16, self.title, "start", "font-weight='bold'")]
        for value, name in self.y_ticks.items():
            y = self._y(value)
            shapes.append(f"<line x1='{_LEFT}' y1='{y:.1f}' x2='{right}' y2='{y:.1f}' stroke='{_GREY}' opacity='0.4'/>")
            shapes.append(_text(_LEFT - 8, y + 4, name, "end"))
        for place, x in enumerate(self.xs):
            shapes.append(_text(self._x(place), _HEIGHT - _BOTTOM + 18, f"{x:g} ×", "middle"))
        shapes.append(_text((_LEFT + right) / 2, _HEIGHT - 10, self.x_title, "middle"))
        return shapes

    def _lines(self) -> list[str]:
        shapes = []
        for number, (name, values) in enumerate(self.lines.items()):
            colour = _COLOURS[number % len(_COLOURS)]
            points = [(self._x(place), self._y(value)) for place, value in enumerate(values)]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            shapes.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2.5'/>")
            shapes += [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3.5' fill='{colour}'/>" for x, y in points]
            # Below one another, should lines end at one place.
            x, y = points[-1]
            shapes.append(_text(x + 10, y + 4 - 16 * self._above(name), name, "start", f"fill='{colour}'"))
        return shapes

    def _above(self, name: str) -> int:
        """How many lines that come later end where this one does."""
        names = list(self.lines)
        later = names[names.index(name) + 1 :]
        close = 0.05 * self.y_max
        return sum(abs(self.lines[other][-1] - self.lines[name][-1]) < close for other in later)


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    fill = more if "fill=" in more else f"fill='{_GREY}' {more}"
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' {_FONT} {fill}>{escape(text)}</text>"
