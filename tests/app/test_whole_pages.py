"""What a page drew reaches the browser, also where a fragment of it runs again at once."""

from __future__ import annotations

import pytest
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.runtime.forward_msg_queue import ForwardMsgQueue

from app.serving.whole_pages import keep_pages_whole

FRAGMENT = "viewer"


def drawn(place: int, words: str, *, fragment: str = "") -> ForwardMsg:
    message = ForwardMsg()
    message.metadata.delta_path[:] = [0, place]
    message.delta.fragment_id = fragment
    message.delta.new_element.text.body = words
    return message


def ended(*, status: ForwardMsg.ScriptFinishedStatus.ValueType) -> ForwardMsg:
    message = ForwardMsg()
    message.script_finished = status
    return message


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> ForwardMsgQueue:
    """A page with a fragment in its middle, before the browser has got any of it."""
    monkeypatch.setattr(ForwardMsgQueue, "clear", ForwardMsgQueue.clear)  # put back afterwards
    keep_pages_whole()
    queue = ForwardMsgQueue()
    for message in (
        drawn(0, "title"),
        drawn(1, "image", fragment=FRAGMENT),
        drawn(2, "findings"),
        ended(status=ForwardMsg.FINISHED_SUCCESSFULLY),
    ):
        queue.enqueue(message)
    return queue


def test_the_browser_gets_the_whole_page_and_then_the_fragment(waiting: ForwardMsgQueue) -> None:
    waiting.clear(retain_lifecycle_msgs=True, fragment_ids_this_run=[FRAGMENT])
    waiting.enqueue(drawn(1, "image again", fragment=FRAGMENT))
    got = [message.delta.new_element.text.body for message in waiting.flush()]
    assert got == ["title", "image", "findings", "", "image again"]


def test_a_new_run_of_the_page_takes_the_place_of_the_one_before(waiting: ForwardMsgQueue) -> None:
    waiting.clear(retain_lifecycle_msgs=True)
    (left,) = waiting.flush()
    assert left.script_finished == ForwardMsg.FINISHED_EARLY_FOR_RERUN
    assert waiting.is_empty()
