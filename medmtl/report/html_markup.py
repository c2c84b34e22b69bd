"""HTML put together from small functions; whatever is not markup already is escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Html", "join", "tag"]

_VOID = frozenset({"br", "hr", "img", "meta"})  # HTML elements without content or end tag


class Html(str):
    """Text that is markup already. Every other text is escaped where it enters a page."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: str | int | float | bool | None) -> Html:
    """One element.

    Args:
        name: Element name, such as "td".
        children: `Html` stays as it is, anything else becomes escaped text; None is left out.
        attributes: Escaped values; a trailing underscore is dropped (`class_`), other underscores
            become hyphens; True writes the bare name, None and False leave it out.
    """
    text = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Html(f"<{name}{text}>")
    return Html(f"<{name}{text}>{join(children)}</{name}>")


def join(parts: Iterable[object], separator: str = "") -> Html:
    """Parts one after the other, escaped where they are no markup; None is left out."""
    return Html(separator.join(_markup(part) for part in parts if part is not None))


def _markup(part: object) -> str:
    return str(part) if isinstance(part, Html) else escape(str(part))


def _attribute(key: str, value: str | float | bool | None) -> str:
    name = key.removesuffix("_").replace("_", "-")
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
