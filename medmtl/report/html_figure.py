"""Figures and pictures inside the page itself, so that one file is the whole report."""

from __future__ import annotations

import base64
import io
import re
from typing import TYPE_CHECKING

import matplotlib

from medmtl.report.html_markup import Html, tag

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["inline_figure", "inline_png"]

_PAGE_COLOURS = {"#000000": "currentColor", "#ffffff": "var(--paper)"}
"""Black and white of a figure become text and ground of the page, light or dark."""


def inline_figure(figure: Figure, *, name: str, alt: str, caption: object = None) -> Html:
    """A matplotlib figure as SVG with its caption.

    Args:
        figure: Black and white in it follow the page's colours.
        name: Unique in the page (letters, digits, hyphens): identifiers inside start with it.
        alt: What the figure shows, for who cannot see it.
        caption: Text or markup below it.
    """
    stream = io.StringIO()
    settings = {"svg.fonttype": "none", "svg.hashsalt": name}  # text stays text; no random ids
    with matplotlib.rc_context(settings):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    return _figure(_adapt(stream.getvalue(), name=name, alt=alt), caption)


def inline_png(content: bytes, *, alt: str, caption: object = None, class_: str = "") -> Html:
    """A PNG file as part of the page."""
    source = "data:image/png;base64," + base64.b64encode(content).decode()
    return _figure(tag("img", src=source, alt=alt, class_=class_ or None), caption)


def _figure(inside: Html, caption: object) -> Html:
    return tag("figure", inside, None if caption is None else tag("figcaption", caption))


def _adapt(svg: str, *, name: str, alt: str) -> Html:
    """Only the element, identifiers of its own, colours of the page, a text for screen readers."""
    element = svg[svg.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, count=1, flags=re.DOTALL)
    element = re.sub(r'\bid="', f'id="{name}-', element)
    element = re.sub(r'href="#', f'href="#{name}-', element)
    element = re.sub(r"url\(#", f"url(#{name}-", element)
    for colour, of_page in _PAGE_COLOURS.items():
        element = element.replace(colour, of_page)
    label = str(tag("svg", role="img", aria_label=alt)).removesuffix("></svg>")
    return Html(element.replace("<svg", label, 1))
