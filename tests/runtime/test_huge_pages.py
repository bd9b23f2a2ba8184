"""What a session allocates lies in large pages where the system has them, and is what it was."""

from __future__ import annotations

import mmap
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetfm.runtime import huge_pages
from edgetfm.runtime.huge_pages import LEAST, PAGE, in_huge_pages

needs_pages = pytest.mark.skipif(
    huge_pages._anonymous() is None, reason="large pages are not to be had here"
)


def large_bytes() -> int:
    """Of this process, in large pages."""
    text = Path("/proc/self/smaps_rollup").read_text()
    (kib,) = re.findall(r"AnonHugePages:\s+(\d+) kB", text)
    return int(kib) << 10


def filled(size: int) -> mmap.mmap:
    """Memory of its own, written to in each page, which the system gave in small ones."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    for at in range(0, size, mmap.PAGESIZE):
        memory[at : at + 8] = at.to_bytes(8, "little")
    memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


@needs_pages
def test_what_is_allocated_inside_lies_in_large_pages() -> None:
    before = large_bytes()
    with in_huge_pages():
        memory = filled(4 * LEAST)
        assert large_bytes() - before < LEAST
    assert large_bytes() - before >= 4 * LEAST - 2 * PAGE  # less its ragged ends
    places = range(0, len(memory), mmap.PAGESIZE)
    assert all(int.from_bytes(memory[at : at + 8], "little") == at for at in places)


@needs_pages
def test_what_was_there_before_is_left_alone() -> None:
    old = filled(2 * LEAST)
    before = large_bytes()
    with in_huge_pages():
        pass
    assert large_bytes() - before < LEAST
    assert len(old) == 2 * LEAST


def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    never = tmp_path / "enabled"
    never.write_text("always madvise [never]\n")
    monkeypatch.setattr(huge_pages, "_collapse", None)  # not to be called
    for name, value in (("_ALLOWED", never), ("_MAPS", tmp_path / "none")):
        with monkeypatch.context() as patch:
            patch.setattr(huge_pages, name, value)
            with in_huge_pages():
                memory = filled(2 * LEAST)
            memory.close()
    monkeypatch.setattr(huge_pages.sys, "platform", "win32")
    assert huge_pages._anonymous() is None


def test_the_stack_of_a_thread_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It begins behind its guard; what the system gave behind it is one region with it."""
    stack, after, other = 0x7F0000001000, 0x7F0000801000, 0x7F0010000000
    maps = tmp_path / "maps"
    maps.write_text(
        f"{stack - 0x1000:x}-{stack:x} ---p 00000000 00:00 0 \n"
        f"{stack:x}-{after + PAGE:x} rw-p 00000000 00:00 0 \n"
        f"{other:x}-{other + PAGE:x} rw-p 00000000 00:00 0 \n"
    )
    monkeypatch.setattr(huge_pages, "_MAPS", maps)
    monkeypatch.setattr(huge_pages, "_stack", lambda: 8 << 20)
    monkeypatch.setattr(huge_pages.sys, "platform", "linux")
    allowed = tmp_path / "enabled"
    allowed.write_text("always [madvise] never\n")
    monkeypatch.setattr(huge_pages, "_ALLOWED", allowed)
    assert huge_pages._anonymous() == [(after, after + PAGE), (other, other + PAGE)]


spans = st.lists(st.integers(0, 60), unique=True, max_size=12).map(
    lambda cuts: list(zip(sorted(cuts)[::2], sorted(cuts)[1::2], strict=False))
)


@given(spans, spans)
def test_the_parts_that_no_other_covers(
    regions: list[tuple[int, int]], others: list[tuple[int, int]]
) -> None:
    def places(of: list[tuple[int, int]]) -> set[int]:
        return {at for start, end in of for at in range(start, end)}

    found = list(huge_pages._without(regions, others))
    assert places(found) == places(regions) - places(others)
    assert all(start < end for start, end in found)
