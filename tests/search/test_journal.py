"""A search that was interrupted goes on where it was; one about something else starts anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetfm.search.journal import Journal


def test_what_was_found_out_is_there_the_next_time(tmp_path: Path) -> None:
    path = tmp_path / "search.json"
    first = Journal(path, model="abc", budget="cosine:0.99")
    first.put("node 1", [0.5, 2.0])
    first.save()
    again = Journal(path, budget="cosine:0.99", model="abc")
    assert again.found == 1
    assert again.get("node 1") == [0.5, 2.0]
    assert again.get("node 2") is None


def test_another_model_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "search.json"
    first = Journal(path, model="abc")
    first.put("node 1", 1.0)
    first.save()
    assert Journal(path, model="abd").get("node 1") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"key": 1, "answers": []}', b"\xff\xfe"])
def test_a_damaged_journal_is_no_journal(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "search.json"
    path.write_bytes(content)
    assert Journal(path, model="abc").found == 0


def test_a_search_that_ends_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "search.json"
    journal = Journal(path, model="abc")
    journal.put("node 1", 1.0)
    journal.save()
    journal.done()
    assert list(tmp_path.iterdir()) == []


def test_without_a_path_nothing_is_written() -> None:
    journal = Journal(None, model="abc")
    journal.put("node 1", 1.0)
    journal.save()
    assert journal.get("node 1") == 1.0
    journal.done()
