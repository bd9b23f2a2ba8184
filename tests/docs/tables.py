"""The tables in the docs that are made of what the tests hold.

    python -m tests.docs.tables

writes them anew between `<!-- NAME -->` and `<!-- end -->` in each page that has such a place.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from edgetfm.models import TABLE
from edgetfm.task import OTHER
from edgetfm.tasks import TASKS
from tests.adapter.rows import model_types
from tests.interop.rows import CASES, ENVS, PRECISIONS, RUNTIMES, pinned

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "docs" / "interop.md")

_TAKES = {
    "text": "text",
    "image": "a picture",
    "audio": "sound",
    "image-text": "pictures and texts",
    "audio-text": "sounds and texts",
    "text-image-audio": "texts, pictures and sounds, any of them",
}


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    lines = [list(head)]
    lines += [["---"] * len(lines[0]), *map(list, rows)]
    return "\n".join("|" + "|".join(f" {c} " if c else " " for c in row) + "|" for row in lines)


def source_rows() -> list[dict[str, Any]]:
    """The rows of tests/sources/sources.toml."""
    path = ROOT / "tests" / "sources" / "sources.toml"
    rows: list[dict[str, Any]] = tomllib.loads(path.read_text("utf-8"))["source"]
    return rows


def sources() -> str:
    """Where models come from."""
    return table(("source", ""), ((row["given"], row["what"]) for row in source_rows()))


def types() -> str:
    """How many model types there are of each kind, and which have a family of ours."""
    ours: dict[str, list[str]] = {}
    for row in TABLE.values():
        ours.setdefault(_kind(row.tasks[0]), []).extend(row.model_types)
    exported: dict[str, int] = {}
    refused: dict[str, int] = {}
    for row in (r for r in model_types().values() if "native" not in r):
        counts = refused if "refused" in row else exported
        counts[_kind(row["task"])] = counts.get(_kind(row["task"]), 0) + 1
    kinds = dict.fromkeys([*(kind for kind, names in ours.items() if names), *exported, *refused])
    return table(
        ("", "families of edgetfm's own", "types by the adapter", "refused"),
        (
            (
                kind,
                ", ".join(ours.get(kind, ())),
                str(exported.get(kind, "")),
                str(refused.get(kind, "")),
            )
            for kind in kinds
        ),
    )


def _kind(task: str) -> str:
    return "text generation" if TASKS[task].generates else _TAKES[TASKS[task].modality]


def tasks() -> str:
    """What models do: what goes in, what may be lost, what else people call it."""
    return table(
        ("task", "takes", "may lose", "also called"),
        (
            (task.name, _TAKES[task.modality], f"`{task.budget}`", ", ".join(task.synonyms))
            for task in TASKS.values()
            if task.name != OTHER
        ),
    )


def runtimes() -> str:
    """Where bundles are opened by the tests."""
    optimum = f"Optimum: optimum-onnx {pinned('optimum', 'optimum-onnx')}"
    package = json.loads((ENVS / "transformers-js" / "package.json").read_text("utf-8"))
    javascript = package["dependencies"]["@huggingface/transformers"]
    versions = ", ".join(pinned(f"onnxruntime-{v}", "onnxruntime") for v in RUNTIMES)
    return table(
        ("runtime", "opened there"),
        (
            (f"ONNX Runtime {versions}", f"MiniLM in {', '.join(PRECISIONS)}"),
            (
                f"{optimum}, transformers {pinned('optimum', 'transformers')}",
                ", ".join(dict.fromkeys(c.optimum for c in CASES if c.optimum)),
            ),
            (
                f"Transformers.js {javascript} in Node",
                ", ".join(dict.fromkeys(c.pipeline for c in CASES if c.pipeline)),
            ),
        ),
    )


def opened() -> str:
    """Which model was opened by what."""
    return table(
        ("model", "task", "precisions", "Optimum", "Transformers.js"),
        (
            (
                case.model,
                case.task,
                ", ".join(case.precisions),
                case.optimum or "",
                f"`{case.pipeline}`" if case.pipeline else "",
            )
            for case in CASES
        ),
    )


TABLES: dict[str, Callable[[], str]] = {
    "sources": sources,
    "types": types,
    "tasks": tasks,
    "runtimes": runtimes,
    "opened": opened,
}

_PLACE = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(text: str) -> str:
    """A page with its tables as they should be."""
    return _PLACE.sub(lambda m: f"{m[1]}{TABLES[m[2]]()}\n{m[3]}", text)


def places(text: str) -> list[str]:
    """The names of the tables in a page."""
    return [m[2] for m in _PLACE.finditer(text)]


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(with_tables(page.read_text("utf-8")), "utf-8")
