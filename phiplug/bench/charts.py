"""Draws numbers as SVG: bars with intervals, lines over slots, and cumulative distributions.

Each chart is one `<svg>` element without a font, a script or a colour of its own: the page's style sheet has them, so
that the same picture is read in light, in dark and in print. It knows nothing of what the numbers mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

WIDTH = 760.0
LABELS = 190.0  # of the column of names beside bars
VALUES = 170.0  # of the column of values beside bars
ROW = 40.0
COLOURS = 6  # the style sheet has so many


@dataclass(frozen=True, slots=True)
class Bar:
    """A line of a bar chart.

    Attributes:
        label: its name, and below it in small what else must be known.
        low: where the interval around the value begins, and `high` where it ends.
        limit: a line that the value is to be seen against, or None.
        colour: which of the style sheet's.
        faint: drawn lighter, for what stands beside the rest.
    """

    label: tuple[str, str]
    value: float
    low: float
    high: float
    shown: str
    limit: float | None = None
    colour: int = 0
    faint: bool = False


@dataclass(frozen=True, slots=True)
class Curve:
    """Points joined by a line, x ascending; `dash` sets it apart from one of the same colour."""

    label: str
    points: tuple[tuple[float, float], ...]
    colour: int = 0
    dash: int = 0


def bars(title: str, items: Sequence[Bar], unit: str) -> str:
    """Draw a horizontal bar for each item, from zero."""
    height = 34 + ROW * len(items)
    drawing = _Drawing(title, height)
    top = max(max(item.high, item.limit or 0.0) for item in items)
    ticks = steps(0.0, top)
    scale = (WIDTH - LABELS - VALUES) / max(top, ticks[-1])
    for tick in ticks:
        x = LABELS + tick * scale
        drawing.line(x, 6, x, height - 26, "grid")
        drawing.text(x, height - 10, _spelt(tick), "tick", "middle")
    drawing.text(WIDTH, height - 10, unit, "tick", "end")
    for index, item in enumerate(items):
        _bar(drawing, item, 6 + ROW * index, scale)
    return drawing.svg()


def _bar(drawing: _Drawing, item: Bar, y: float, scale: float) -> None:
    middle = y + ROW / 2
    name, below = item.label
    drawing.text(LABELS - 10, middle - 2 if below else middle + 4, name, "label", "end")
    drawing.text(LABELS - 10, middle + 12, below, "small", "end")
    drawing.rect(LABELS, middle - 10, max(item.value * scale, 1.0), 20, f"fill{item.colour}" + " faint" * item.faint)
    drawing.line(LABELS + item.low * scale, middle, LABELS + item.high * scale, middle, "whisker")
    for end in (item.low, item.high):
        drawing.line(LABELS + end * scale, middle - 4, LABELS + end * scale, middle + 4, "whisker")
    if item.limit is not None:
        x = LABELS + item.limit * scale
        drawing.line(x, middle - 15, x, middle + 15, "limit")
    drawing.text(WIDTH, middle + 4, item.shown, "value", "end")


def lines(title: str, curves: Sequence[Curve], *, x_name: str, y_name: str) -> str:
    """Draw curves over a linear x axis whose ticks are the points' own, from zero upwards."""
    plot = _Plot(title, curves, logarithmic=False)
    plot.x_axis(sorted({x for curve in curves for x, _ in curve.points}), x_name)
    plot.y_axis(steps(0.0, plot.top), y_name)
    for curve in curves:
        plot.draw(curve, dots=True)
    return plot.finished(curves)


def distributions(title: str, curves: Sequence[Curve], *, x_name: str) -> str:
    """Draw cumulative shares, y from 0 to 1; x is logarithmic where the values lie far apart."""
    values = [x for curve in curves for x, _ in curve.points]
    far = min(values) > 0 and max(values) / min(values) > 8
    plot = _Plot(title, curves, logarithmic=far)
    plot.x_axis(decades(min(values), max(values)) if far else steps(min(values), max(values)), x_name)
    plot.y_axis([0.0, 0.25, 0.5, 0.75, 1.0], "share of tokens", percent=True)
    for curve in curves:
        plot.draw(curve, dots=False)
    return plot.finished(curves)


class _Drawing:
    """An `<svg>` in the making; ElementTree escapes whatever text comes in."""

    def __init__(self, title: str, height: float) -> None:
        self.root = ET.Element(
            "svg", {"viewBox": f"0 0 {WIDTH:g} {height:g}", "role": "img", "xmlns": "http://www.w3.org/2000/svg"}
        )
        ET.SubElement(self.root, "title").text = title

    def line(self, x1: float, y1: float, x2: float, y2: float, look: str) -> None:
        ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
        ET.SubElement(self.root, "line", {k: f"{v:.1f}" for k, v in ends.items()} | {"class": look})

    def rect(self, x: float, y: float, width: float, height: float, look: str) -> None:
        sides = {"x": x, "y": y, "width": width, "height": height, "rx": 2.0}
        ET.SubElement(self.root, "rect", {k: f"{v:.1f}" for k, v in sides.items()} | {"class": look})

    def dot(self, x: float, y: float, look: str) -> None:
        ET.SubElement(self.root, "circle", {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": "4", "class": look})

    def path(self, points: Sequence[tuple[float, float]], look: str) -> None:
        way = " ".join(f"{'L' if index else 'M'}{x:.1f} {y:.1f}" for index, (x, y) in enumerate(points))
        ET.SubElement(self.root, "path", {"d": way, "class": look})

    def text(self, x: float, y: float, text: str, look: str, anchor: str = "start") -> None:
        place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "class": look, "text-anchor": anchor}
        ET.SubElement(self.root, "text", place).text = text

    def svg(self) -> str:
        return ET.tostring(self.root, encoding="unicode")


class _Plot:
    """Two axes and what is drawn between them, with a legend below."""

    LEFT, RIGHT, TOP, BOTTOM = 64.0, WIDTH - 24.0, 26.0, 276.0

    def __init__(self, title: str, curves: Sequence[Curve], *, logarithmic: bool) -> None:
        xs = [x for curve in curves for x, _ in curve.points]
        self._drawing = _Drawing(title, self.BOTTOM + 58 + 22 * math.ceil(len(curves) / 2))
        self._map = math.log10 if logarithmic else float
        self._low, self._high = self._map(min(xs)), self._map(max(xs))
        self.top = max(y for curve in curves for _, y in curve.points)

    def x_axis(self, ticks: Sequence[float], name: str) -> None:
        self._low = min(self._low, self._map(ticks[0]))
        self._high = max(self._high, self._map(ticks[-1]))
        for tick in ticks:
            x = self._x(tick)
            self._drawing.line(x, self.TOP, x, self.BOTTOM, "grid")
            self._drawing.text(x, self.BOTTOM + 18, _spelt(tick), "tick", "middle")
        self._drawing.text((self.LEFT + self.RIGHT) / 2, self.BOTTOM + 38, name, "tick", "middle")

    def y_axis(self, ticks: Sequence[float], name: str, *, percent: bool = False) -> None:
        self.top = max(self.top, ticks[-1])
        for tick in ticks:
            y = self._y(tick)
            self._drawing.line(self.LEFT, y, self.RIGHT, y, "grid")
            self._drawing.text(self.LEFT - 8, y + 4, f"{tick:.0%}" if percent else _spelt(tick), "tick", "end")
        self._drawing.text(self.LEFT - 56, 14, name, "tick")

    def draw(self, curve: Curve, *, dots: bool) -> None:
        points = [(self._x(x), self._y(y)) for x, y in curve.points]
        self._drawing.path(points, f"line{curve.colour} dash{curve.dash}")
        for x, y in points if dots else ():
            self._drawing.dot(x, y, f"fill{curve.colour}")

    def finished(self, curves: Sequence[Curve]) -> str:
        for index, curve in enumerate(curves):
            x = self.LEFT + (index % 2) * (self.RIGHT - self.LEFT) / 2
            y = self.BOTTOM + 62 + 22 * (index // 2)
            self._drawing.path([(x, y), (x + 28, y)], f"line{curve.colour} dash{curve.dash}")
            self._drawing.text(x + 36, y + 4, curve.label, "label")
        return self._drawing.svg()

    def _x(self, value: float) -> float:
        width = self._high - self._low
        return self.LEFT + (self.RIGHT - self.LEFT) * ((self._map(value) - self._low) / width if width else 0.5)

    def _y(self, value: float) -> float:
        return self.BOTTOM - (self.BOTTOM - self.TOP) * value / (self.top or 1.0)


def steps(low: float, high: float) -> list[float]:
    """Return four to eight round numbers from at most `low` to at least `high`."""
    rough = ((high - low) or abs(high) or 1.0) / 5
    size = 10 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(step * index, 12) for index in range(first, last + 1)]


def decades(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten from at most `low` to at least `high`."""
    found = list(_ones_twos_fives(low, high))
    begin = max(index for index, value in enumerate(found) if value <= low)
    end = min(index for index, value in enumerate(found) if value >= high)
    return found[begin : end + 1]


def _ones_twos_fives(low: float, high: float) -> Iterator[float]:
    for power in range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1):
        yield from (round(factor * 10.0**power, 12) for factor in (1, 2, 5))


def _spelt(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"
