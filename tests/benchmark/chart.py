"""A line chart as SVG, in colours that are readable on light and dark ground."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final
from xml.sax.saxutils import escape

_WIDTH: Final = 720
_HEIGHT: Final = 360
_LEFT: Final = 60
_RIGHT: Final = 570  # leaves room for the names at the ends of the lines
_TOP: Final = 40
_BOTTOM: Final = 310
_LINE: Final = 16
_GREY: Final = "#808080"
_COLOURS: Final = ("#1a7f37", "#cf222e", "#8250df", "#0969da", "#bc4c00")


def line_chart(*, title: str, x_title: str, xs: Sequence[float], lines: Mapping[str, Sequence[float]]) -> str:
    """`lines` by name, each with a share (0 to 1) for every x; the xs are at equal distances, whatever their values."""

    def at(index: int) -> float:
        return _LEFT + (_RIGHT - _LEFT) * index / max(len(xs) - 1, 1)

    def height(share: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * min(share, 1.0)

    def shapes() -> Iterator[str]:
        yield f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img'>"
        yield f"<title>{escape(title)}</title>"
        yield _text(_LEFT, _TOP - _LINE, title, "start", bold=True)
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            y = f"{height(share):.1f}"
            yield f"<line x1='{_LEFT}' y1='{y}' x2='{_RIGHT}' y2='{y}' stroke='{_GREY}' opacity='0.4'/>"
            yield _text(_LEFT - 8, height(share) + 4, f"{share:.0%}", "end")
        for index, x in enumerate(xs):
            yield _text(at(index), _BOTTOM + 18, f"{x:g} ×", "middle")
        yield _text((_LEFT + _RIGHT) / 2, _HEIGHT - 10, x_title, "middle")
        name_y = float(_HEIGHT)
        for number, (name, shares) in enumerate(sorted(lines.items(), key=lambda line: line[1][-1])):
            colour = _COLOURS[number % len(_COLOURS)]
            points = [(at(index), height(share)) for index, share in enumerate(shares)]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            yield f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2.5'/>"
            yield from (f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3.5' fill='{colour}'/>" for x, y in points)
            name_y = min(points[-1][1] + 4, name_y - _LINE)  # upwards, so that names do not overlap
            yield _text(_RIGHT + 10, name_y, name, "start", colour)
        yield "</svg>\n"

    return "\n".join(shapes())


def _text(x: float, y: float, text: str, anchor: str, colour: str = _GREY, *, bold: bool = False) -> str:
    style = f"font-family='sans-serif' font-size='13' fill='{colour}'{' font-weight=' + repr('bold') if bold else ''}"
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' {style}>{escape(text)}</text>"
