"""What the charts of a report are made of, as inline SVG without words: those stand beside it."""

from collections.abc import Sequence

from seglab.evaluation.report.markup import Html, element, join

__all__ = ["bar", "stroke", "swatch", "switch"]


def swatch(colour: Sequence[int]) -> Html:
    """Return a small square of a colour."""
    fill = "#" + "".join(f"{value:02x}" for value in colour)
    square = element("rect", x=0.5, y=0.5, width=11, height=11, rx=2.5, fill=fill)
    return element("svg", square, class_="swatch", viewBox="0 0 12 12", aria_hidden="true")


def bar(value: float, low: float | None = None, high: float | None = None, *, before: float | None = None) -> Html:
    """Return a bar on a track, its interval as a whisker and an earlier value as a tick; all are 0..1."""
    parts = [
        element("rect", class_="track", x=0, y=2, width=100, height=8),
        element("rect", class_="bar", x=0, y=2, width=100 * min(max(value, 0.0), 1.0), height=8),
    ]
    if before is not None:
        parts.append(stroke("before", 100 * before, 0, 100 * before, 12))
    if low is not None and high is not None:
        parts += [
            stroke("whisker", 100 * low, 6, 100 * high, 6),
            stroke("whisker", 100 * low, 3.5, 100 * low, 8.5),
            stroke("whisker", 100 * high, 3.5, 100 * high, 8.5),
        ]
    return element("svg", *parts, class_="bars", viewBox="0 0 100 12", preserveAspectRatio="none", aria_hidden="true")


def switch(name: str, legend: str, panels: Sequence[tuple[str, Html]]) -> Html:
    """Return panels of which one is shown at a time; choosing needs no script.

    Args:
        name: Unique in the page.
        legend: What is chosen.
        panels: Title and content; at most six.
    """
    inputs = [
        join(
            [
                element("input", type="radio", name=name, id=f"{name}-{at}", class_=f"pick pick{at}", checked=at == 0),
                element("label", title, for_=f"{name}-{at}"),
            ]
        )
        for at, (title, _) in enumerate(panels)
    ]
    shown = [element("div", content, class_=f"panel panel{at}") for at, (_, content) in enumerate(panels)]
    group = element("legend", legend, class_="unseen")
    return element("fieldset", group, *inputs, element("div", *shown, class_="panels"), class_="switch")


def stroke(class_: str, x1: float, y1: float, x2: float, y2: float) -> Html:
    """Return a line that stays as thin as it is where its picture is stretched."""
    return element("line", class_=class_, x1=x1, y1=y1, x2=x2, y2=y2, vector_effect="non-scaling-stroke")
