"""A journal tells after any end of its program what had been noted before."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmtl.core.errors import OutputError
from medmtl.pacs.journal import Entry, Journal

NOTES = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["seen", "done", "failed"])), max_size=12
)


@settings(deadline=None)  # a slow disk is no fault
@given(notes=NOTES, lost=st.integers(0, 400))
def test_a_torn_end_loses_only_the_last_notes(
    tmp_path_factory: pytest.TempPathFactory, notes: list[tuple[str, str]], lost: int
) -> None:
    path = tmp_path_factory.mktemp("journal") / "watch.jsonl"
    journal = Journal.open(path)
    states: list[dict[str, str]] = [{}]
    for key, state in notes:
        journal.note(key, state, time_s=1.0)
        states.append({**states[-1], key: state})
    content = path.read_bytes()
    path.write_bytes(content[: max(0, len(content) - lost)])
    after = Journal.open(path)
    found = {key: entry.state for key in "abc" if (entry := after.state(key))}
    assert found in states
    if lost == 0:
        assert found == states[-1]
    after.note("new", "seen", time_s=2.0)  # on a line of its own, whatever was lost
    assert Journal.open(path).state("new") == Entry("seen", 2.0)


def test_the_first_time_of_a_state_is_kept(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "watch.jsonl")
    journal.note("a", "seen", time_s=1.0)
    journal.note("a", "seen", time_s=5.0)
    assert journal.state("a") == Entry("seen", 1.0)
    journal.note("a", "done", time_s=6.0)
    assert Journal.open(journal.path).state("a") == Entry("done", 6.0)


def test_keys_come_by_prefix_and_state_in_their_order(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "watch.jsonl")
    for key in ("push:b", "study:a", "push:a", "push:c"):
        journal.note(key, "due", time_s=1.0)
    journal.note("push:c", "sent", time_s=2.0)
    assert journal.keys(prefix="push:", state="due") == ("push:b", "push:a")


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="journal could not be written"):
        Journal.open(tmp_path / "file" / "watch.jsonl")
