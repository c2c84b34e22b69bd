"""One HTML file that needs nothing else: no network, no script; readable on paper too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medmtl.report.html_markup import Html, join, tag
from medmtl.report.html_style import STYLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "Section",
    "fold",
    "interval_cell",
    "notice",
    "number_text",
    "page",
    "paragraph",
    "table",
    "tiles",
]

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True)
class Section:
    """A part of a page; `name` is its anchor (letters, digits, hyphens), unique in the page."""

    name: str
    title: str
    content: Html


def page(
    title: str, sections: Iterable[Section], *, subtitle: object = None, top: object = None
) -> str:
    """The text of the file.

    Args:
        title: Of window and page.
        sections: In order, each with an entry in the list of contents.
        subtitle: Under the title: which model, which data.
        top: Between title and contents: warnings first.
    """
    known = list(sections)
    links = join(tag("a", part.title, href=f"#{part.name}") for part in known)
    head = join(
        [
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            # The page must not load anything, whatever text came into it.
            tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
            tag("title", title),
            tag("style", Html(STYLE)),
        ],
        "\n",
    )
    body = tag(
        "main",
        tag("h1", title),
        None if subtitle is None else tag("p", subtitle, class_="soft"),
        top,
        tag("nav", links),
        *(tag("section", tag("h2", p.title, id=p.name), p.content) for p in known),
        tag("footer", "Written by medmtl. Research software, not a medical device."),
    )
    return f"<!DOCTYPE html>\n{tag('html', tag('head', head), tag('body', body), lang='en')}\n"


def table(
    columns: Sequence[object],
    rows: Iterable[Sequence[object]],
    *,
    caption: object = None,
    text_columns: int = 1,
) -> Html:
    """A table that scrolls sideways where it is too wide.

    Args:
        columns: Headings.
        rows: Cells, text or markup; a float is written with `number_text`, None as a dash.
        caption: Above the table.
        text_columns: The first ones are aligned left, all others are numbers, aligned right.
    """
    head = tag("tr", *(_cell("th", c, n >= text_columns) for n, c in enumerate(columns)))
    body = [
        tag("tr", *(_cell("td", c, n >= text_columns) for n, c in enumerate(row))) for row in rows
    ]
    above = None if caption is None else tag("caption", caption)
    inside = tag("table", above, tag("thead", head), tag("tbody", *body))
    return tag("div", inside, class_="scroll")


def _cell(name: str, content: object, is_number: bool) -> Html:
    shown = number_text(content) if content is None or isinstance(content, float) else content
    scope = "col" if name == "th" else None
    return tag(name, shown, class_="number" if is_number else None, scope=scope)


def number_text(value: object, *, digits: int = 3) -> str:
    """A number with so many digits after the point; a dash where there is none."""
    return "-" if not isinstance(value, int | float) else f"{value:.{digits}f}"


def interval_cell(interval: Mapping[str, Any] | None, *, digits: int = 3) -> Html:
    """`{"value", "ci95"}` of metrics.json as "0.912 [0.893, 0.931]"."""
    if interval is None or interval.get("value") is None:
        return Html("-")
    low_high = interval.get("ci95")
    ends = None
    if low_high:
        text = ", ".join(number_text(end, digits=digits) for end in low_high)
        ends = tag("span", f" [{text}]", class_="ci")
    return join([number_text(interval["value"], digits=digits), ends])


def paragraph(*parts: object, soft: bool = False) -> Html:
    """Running text."""
    return tag("p", *parts, class_="soft" if soft else None)


def notice(*parts: object, is_warning: bool = True) -> Html:
    """A box that is seen first."""
    return tag("div", *parts, class_="notice" if is_warning else "note", role="note")


def fold(summary: str, *parts: object) -> Html:
    """What opens on a click (also without scripts)."""
    return tag("details", tag("summary", summary), *parts)


def tiles(numbers: Iterable[tuple[str, object]]) -> Html:
    """The few numbers that matter most: (name, number)."""
    return tag(
        "div",
        *(tag("div", name, tag("b", value), class_="tile") for name, value in numbers),
        class_="tiles",
    )
