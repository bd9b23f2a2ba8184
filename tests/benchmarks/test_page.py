"""docs/benchmarks.md holds what was measured, and nothing else."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

SCRIPT = '''\
"""A thing beside others.

    python benchmarks/thing.py --json FILE

One at a time. How the others are made:
"""
import json, sys
class Row:
    """ms: of a call."""
rows = [{"title": "ours|mine", "ms": 1.23456, "runs": 7, "versions": {"edgetfm": "0.1"}}]
with open(sys.argv[sys.argv.index("--json") + 1], "w") as file:
    json.dump({"rows": rows if "--none" not in sys.argv else []}, file)
'''


def load() -> Any:
    """benchmarks/page.py, which is no package's."""
    spec = importlib.util.spec_from_file_location("page", ROOT / "benchmarks" / "page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Over a folder with one small benchmark, and a script that is none."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    module = load()
    benchmarks = tmp_path / "benchmarks"
    benchmarks.mkdir()
    (benchmarks / "thing.py").write_text(SCRIPT)
    (benchmarks / "mute.py").write_text("")
    for name, place in (
        ("HERE", benchmarks),
        ("RESULTS", benchmarks / "results"),
        ("PAGE", tmp_path / "benchmarks.md"),
    ):
        monkeypatch.setattr(module, name, place)
    return module


def call(page: Any, monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    monkeypatch.setattr(sys, "argv", ["page.py", *words])
    page.main()
    return str(page.PAGE.read_text())


def test_a_run_is_kept_with_its_command_and_machine(
    page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Nothing was measured yet" in call(page, monkeypatch, "write")
    text = call(page, monkeypatch, "run", "thing", "--as", "thing-1", "--", "--bundle", "runs/a")
    kept = json.loads((page.RESULTS / "thing-1.json").read_text())
    assert "## A thing beside others\n\nOne at a time.\n" in text
    assert "| ours\\|mine | 1.235 | 7 |" in text
    assert "- `python benchmarks/thing.py --bundle runs/a`" in text
    assert "ours|mine: edgetfm 0.1" in text
    assert "\nms: of a call.\n" in text
    for value in (kept["date"], kept["machine"]["cpu"], kept["machine"]["onnxruntime"]):
        assert value in text
    assert kept["edgetfm"]["commit"] is None, "no repository"
    assert f"- edgetfm {version('edgetfm')}, commit not known\n" in text
    assert call(page, monkeypatch, "write") == text


def test_a_commit_says_whether_files_differ_from_it(page: Any, tmp_path: Path) -> None:
    def git(*words: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        done = subprocess.run(["git", *who, *words], cwd=tmp_path, capture_output=True, check=True)
        return done.stdout.decode().strip()

    git("init", "-q")
    git("add", "benchmarks")
    git("commit", "-q", "--no-gpg-sign", "-m", "benchmarks")
    head = git("rev-parse", "HEAD")[:12]
    assert page.commit(tmp_path) == head
    (page.HERE / "mute.py").write_text("# other words")
    assert page.commit(tmp_path) == f"{head}+"


def test_a_run_that_says_nothing_others_can_repeat_is_refused(
    page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words, why in (
        (("none",), "no benchmark"),
        (("mute",), "no benchmark"),
        (("thing", "--", "--bundle", "/somewhere"), "paths from the repository"),
        (("thing", "--", "--none"), "measured nothing"),
    ):
        with pytest.raises(SystemExit, match=why):
            call(page, monkeypatch, "run", *words)
    assert not list(page.RESULTS.glob("*.json"))


def test_the_page_is_that_of_the_results_that_are_kept() -> None:
    page = load()
    text = page.page(page.kept_results())
    assert text == page.PAGE.read_text(encoding="utf-8"), "python benchmarks/page.py write"


def test_every_benchmark_says_what_it_is() -> None:
    page = load()
    for script in (ROOT / "benchmarks").glob("*.py"):
        title, prose, _ = page.said_by(script)
        assert title[0].isalpha(), script
        assert not prose.endswith(":"), script
