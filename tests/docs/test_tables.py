"""The tables in the README are what the tests hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.tables import PAGES, ROOT, TABLES, places, source_rows, with_tables


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_a_page_has_the_tables_as_they_are_made_now(page: Path) -> None:
    text = page.read_text("utf-8")
    assert places(text)
    assert with_tables(text) == text, "run: make tables"


def test_every_table_has_a_place() -> None:
    named = [name for page in PAGES for name in places(page.read_text("utf-8"))]
    assert sorted(set(named)) == sorted(TABLES)


def test_a_table_that_is_out_of_date_is_made_again() -> None:
    old = "before\n<!-- tasks -->\n| stale |\n<!-- end -->\nafter\n"
    new = with_tables(old)
    assert "| stale |" not in new
    assert "| fill-mask |" in new
    assert with_tables(new) == new


@pytest.mark.parametrize("row", source_rows(), ids=lambda row: row["given"])
def test_the_tests_of_a_source_exist(row: dict[str, list[str]]) -> None:
    assert row["tests"]
    for named in row["tests"]:
        file, _, test = named.partition("::")
        text = (ROOT / file).read_text("utf-8")
        assert re.search(rf"^def {test or 'test_'}", text, re.MULTILINE), named
