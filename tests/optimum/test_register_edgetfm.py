"""`optimum-cli export edgetfm` is `edgetfm export`, and both speak of tasks as Optimum does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from optimum.commands.optimum_cli import main as optimum_cli
from optimum.exporters.tasks import TasksManager

from edgetfm.bundle import open_bundle
from edgetfm.cli import main
from edgetfm.task import OTHER, Task
from edgetfm.tasks import TASKS, task_named

HEAVY = ("click", "edgetfm", "numpy", "onnxruntime", "rich", "torch", "transformers")

NOT_OURS = {
    "mask-generation": "the features of SAM, which no task of edgetfm gives",
    "speech2seq-lm": "encoder-decoders: speech recognition is by CTC here",
}
"""Synonyms of Optimum's that edgetfm refuses, each with its reason."""

OURS_ALONE = {
    "audio-feature-extraction": "feature-extraction there, whatever goes in",
    "multimodal-classification": "no model of transformers takes any of three senses",
}
"""Names that Optimum has not, each with what it says instead."""

NARROWER = {"semantic-segmentation": "the one kind of image-segmentation that there is here"}
"""Tasks of Optimum's that are synonyms here, each with its reason."""


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
    """called(*words): the exit code of `optimum-cli export edgetfm` with these words."""

    def call(*words: object) -> object:
        monkeypatch.setattr(sys, "argv", ["optimum-cli", "export", "edgetfm", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            optimum_cli()
        return ended.value.code

    return call


def test_optimum_exports_and_quantizes(
    called: Callable[..., object], tiny_hf: Callable[..., Path], tmp_path: Path
) -> None:
    source = tiny_hf("bert", "text-classification", tmp_path / "source")
    words = ["--task", "sequence-classification", "--quantize", "int8", "--keep-fp32"]
    assert called(*words, source, "-o", tmp_path / "bundle") == 0
    manifest = open_bundle(tmp_path / "bundle").manifest
    assert (manifest.task, manifest.default) == ("text-classification", "int8")
    assert set(manifest.components["model"].variants) == {"fp32", "int8"}


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["-h"],
        [],
        ["nowhere", "-o", "bundle"],
        ["nowhere", "-o", "bundle", "--quantize", "int7"],
        ["--quantize", "nowhere", "-o", "bundle", "--json"],
        ["nowhere", "--output"],
        ["nowhere", "-o", "bundle", "--no-such-option"],
        ["nowhere", "-o", "bundle", "--task", "poetry", "--", "more"],
    ],
    ids=" ".join,
)
def test_it_says_what_edgetfm_says(
    words: list[str], called: Callable[..., object], capfd: pytest.CaptureFixture[str]
) -> None:
    code = main(["export", *words])
    ours = capfd.readouterr()
    assert (called(*words), capfd.readouterr()) == (code, ours)
    assert code == (0 if words in (["--help"], ["-h"]) else 2)
    assert ours.out + ours.err


def test_optimum_starts_without_edgetfm() -> None:
    program = (
        "import sys\n"
        "from optimum.commands.optimum_cli import load_optimum_namespace_cli_commands as load\n"
        "print(*(command.COMMAND.name for command, _ in load()))\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    commands, modules = done.stdout.splitlines()
    assert "edgetfm" in commands.split()
    assert set(HEAVY).isdisjoint(modules.split())


def test_tasks_are_called_as_optimum_calls_them() -> None:
    known = {*TasksManager.get_all_tasks(), *TasksManager._SYNONYM_TASK_MAP}
    assert {name for name in TASKS if name not in known and name != OTHER} == {*OURS_ALONE}


def test_a_synonym_of_optimums_means_what_it_means_there() -> None:
    synonyms = {
        synonym: task
        for synonym, task in TasksManager._SYNONYM_TASK_MAP.items()
        if task in TASKS and synonym not in TASKS and synonym not in NOT_OURS
    }
    assert len(synonyms) > 4
    assert {synonym: task_named(synonym).name for synonym in synonyms} == synonyms


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda t: t.name)
def test_no_synonym_of_ours_is_another_task_of_optimums(task: Task) -> None:
    theirs = {TasksManager.map_from_synonym(s) for s in task.synonyms if s not in NARROWER}
    assert theirs & set(TasksManager.get_all_tasks()) <= {task.name}
