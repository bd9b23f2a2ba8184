"""Tables and facts that fit the terminal: what is too wide goes on below itself."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import click

from edgetfm.reporting.words import cell, label

WIDEST = 100
"""Columns of text that are read well, and that a window beside another has."""
NARROWEST = 60
GAP = 2
LEAST = 8
"""No column of a table is made narrower than this."""


def width() -> int:
    """The columns there are, WIDEST at most; WIDEST where there is no terminal."""
    columns = shutil.get_terminal_size((WIDEST, 24)).columns
    return max(NARROWEST, min(WIDEST, columns))


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    within: int | None = None,
    spare: Sequence[str] = (),
) -> str:
    """Columns as wide as their widest cell, unless that is too wide; empty ones are left out.

    within: the columns of text there are, `width()` if None. Where all do not fit, the widest are
    wrapped; where no wrapping between words will do, the columns with the headers `spare` are left
    out, as many as it takes, in that order. A row with a cell 'FAIL' is red.
    """
    within = within or width()
    used = [c for c in range(len(headers)) if any(row[c] for row in rows)]
    lines = [[line[c] for c in used] for line in (headers, *rows)]
    for header in spare:
        if _total(_unbroken(lines)) > within and header in lines[0]:
            at = lines[0].index(header)
            lines = [[*line[:at], *line[at + 1 :]] for line in lines]
    widths = _fitting(lines, within)
    head, *body = ["\n".join(_row(line, widths)) for line in lines]
    shown = [
        _styled(text, fg="red") if "FAIL" in row else text
        for text, row in zip(body, rows, strict=True)
    ]
    return "\n".join([_styled(head, dim=True), *shown])


def _styled(text: str, **style: Any) -> str:
    """Each line by itself: some terminals end a style with its line."""
    return "\n".join(click.style(line, **style) for line in text.splitlines())


def _fitting(lines: Sequence[Sequence[str]], within: int) -> list[int]:
    """The width of each column; the widest gives way until all fit or none can."""
    widths = _natural(lines)
    narrow = [min(LEAST, w) for w in widths]
    for least in (_unbroken(lines), narrow):  # whole words as long as it goes
        while _total(widths) > within:
            spare = [(w, c) for c, w in enumerate(widths) if w > least[c]]
            if not spare:
                break
            widths[max(spare)[1]] -= 1
    return widths


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _natural(lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*lines, strict=True)]


def _unbroken(lines: Sequence[Sequence[str]]) -> list[int]:
    """How narrow each column can be without a broken word."""
    words = [
        max((len(word) for text in column for word in text.split()), default=0)
        for column in zip(*lines, strict=True)
    ]
    return [min(w, max(LEAST, o)) for w, o in zip(_natural(lines), words, strict=True)]


def _row(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    """The lines of a row."""
    wrapped = [
        textwrap.wrap(text, columns, break_on_hyphens=False) or [""]
        for text, columns in zip(cells, widths, strict=True)
    ]
    height = max(map(len, wrapped))
    padded = [part + [""] * (height - len(part)) for part in wrapped]
    return [
        (" " * GAP)
        .join(f"{text:<{columns}}" for text, columns in zip(line, widths, strict=True))
        .rstrip()
        for line in zip(*padded, strict=True)
    ]


def facts_text(data: Mapping[str, Any]) -> str:
    """Facts a line each; a fact that has parts is indented below its name."""
    return "\n".join(_fact_lines(data, "", width()))


def _fact_lines(data: Mapping[str, Any], indent: str, within: int) -> list[str]:
    lines = []
    names = max((len(str(key)) for key in data), default=0)
    for key, value in data.items():
        name = label(key)
        if isinstance(value, Mapping) and value:
            lines += [f"{indent}{name}", *_fact_lines(value, indent + "  ", within)]
        else:
            lead = f"{indent}{name:<{names}}  "
            lines += hanging(lead, cell(str(key), value), within)
    return lines


def hanging(lead: str, text: str, within: int | None = None) -> list[str]:
    """The lines of a text after its lead, those that follow as far in; long names stay whole."""
    columns = within or width()
    return textwrap.wrap(
        text,
        max(columns, len(lead) + 20),
        initial_indent=lead,
        subsequent_indent=" " * len(lead),
        break_long_words=False,
        break_on_hyphens=False,
    ) or [lead.rstrip()]
