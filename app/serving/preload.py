"""Code that Streamlit's page would ask for only after its first messages, asked for at once.

Streamlit loads the code of an element when the first one comes: a table waits for a round trip and
1.3 MB that the browser could have had while it waited for the page's own start.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit

from app.serving.assets import asset_url

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["preload_links"]

_ELEMENTS = ("Html", "DataFrame", "TextInput", "Selectbox", "ButtonGroup", "Checkbox", "Button",
             "BidiComponent")  # fmt: skip
"""What the worklist and a case are made of; a name that a later Streamlit lacks is left out."""

_STATIC = Path(streamlit.__file__).parent / "static"
_IMPORT = re.compile(r'(?:from|import)\s*"\./([^"]+\.js)"')  # not import("..."): those wait


@functools.cache
def preload_links() -> bytes:
    """Lines for the head of the page; empty where Streamlit's files are not as expected."""
    code = _STATIC / "static" / "js"
    page = (_STATIC / "index.html").read_text(encoding="utf-8")
    names = [name for name in _chunks(code) if name not in page]
    links = [
        f'<link rel="modulepreload" fetchpriority="low" crossorigin href="./static/js/{name}">'
        for name in names
    ]
    styles = sorted((_STATIC / "static" / "css").glob("DataFrame.*.css"))
    links += [f'<link rel="preload" as="style" crossorigin href="./static/css/{style.name}">'
              for style in styles]  # fmt: skip
    links.append(f'<link rel="modulepreload" href="./{asset_url("volume_viewer.js")}">')
    return "".join(links).encode()


def _chunks(code: Path) -> Iterator[str]:
    """The files of the elements, and everything that these import, each once."""
    pending = sorted(path.name for path in code.glob("*.js")
                     if path.name.partition(".")[0] in _ELEMENTS)  # fmt: skip
    seen: set[str] = set()
    while pending:
        name = pending.pop(0)
        if name in seen or not (code / name).is_file():
            continue
        seen.add(name)
        yield name
        pending += _IMPORT.findall((code / name).read_text(encoding="utf-8"))
