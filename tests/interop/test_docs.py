"""The programs in docs/interop.md, and the one in docs/bundle.md, run as they stand there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.test_docs import blocks
from tests.interop.programs import BOUNDS, Bundles, run
from tests.interop.rows import MINILM, ROOT, RUNTIMES


@pytest.fixture
def work(bundles: Bundles, tmp_path: Path) -> Path:
    """A folder with the bundle that the docs speak of."""
    (tmp_path / "minilm-int8").symlink_to(bundles(MINILM, "int8"))
    return tmp_path


def program(page: str, language: str, file: str = "") -> str:
    (found,) = (b for b in blocks(ROOT / page) if (b.language, b.file) == (language, file))
    return found.text


def test_optimum(work: Path, python_of: Callable[[str], Path]) -> None:
    code = program("docs/interop.md", "python", "optimum")
    assert run([python_of("optimum"), "-c", code], folder=work) == "(2, 384)\n"


def test_transformers_js(work: Path, node_folder: Path) -> None:
    (work / "node_modules").symlink_to(node_folder / "node_modules")
    (work / "program.mjs").write_text(program("docs/interop.md", "js", "transformers-js"))
    assert run([shutil.which("node"), "program.mjs"], folder=work) == "[ 2, 384 ]\n"


@pytest.mark.parametrize("version", RUNTIMES)
def test_vectors_in_onnxruntime_alone(
    version: str, work: Path, python_of: Callable[[str], Path]
) -> None:
    code = program("docs/bundle.md", "python")
    printed = run([python_of(f"onnxruntime-{version}"), "-c", code], folder=work)
    # Of the states of single tokens one that is rounded otherwise may be off by more.
    lines = [line.split() for line in printed.splitlines() if "sentence_embedding" in line]
    assert len(lines) > 2
    assert max(float(difference) for *_, difference in lines) <= BOUNDS["int8"]
