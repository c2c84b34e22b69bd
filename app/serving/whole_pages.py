"""A page stays whole where a fragment of it runs again before the browser has got the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamlit.runtime.forward_msg_queue import ForwardMsgQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["keep_pages_whole"]


def keep_pages_whole() -> None:
    """Let the run of a fragment drop nothing that still waits for the browser.

    Streamlit (1.67) drops what the run of the page drew of the fragment, as the fragment draws it
    again. But it leaves the end of that run in the queue, at which the browser clears what was not
    drawn: the viewer is taken out, what stands after it moves into its place, and is replaced by
    the viewer that comes then. On a busy machine a case page lost its findings that way.
    """
    clear: Callable[..., None] = ForwardMsgQueue.clear

    def clear_no_fragment(
        queue: ForwardMsgQueue,
        *args: Any,
        fragment_ids_this_run: Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        dropped: list[str] | None = None if fragment_ids_this_run is None else []
        clear(queue, *args, fragment_ids_this_run=dropped, **options)

    ForwardMsgQueue.clear = clear_no_fragment  # type: ignore[method-assign, assignment]
