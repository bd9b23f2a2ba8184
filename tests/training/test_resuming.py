"""A run that was cut off and goes on equals one that never stopped, bit for bit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgetfm.errors import InputError
from edgetfm.sources import open_source
from edgetfm.training import TrainConfig, train
from tests.training.worlds import judged_texts, text_folder

SAME = ("model.safetensors", "metrics.json", "config.json", "tokenizer.json", "sample.jsonl")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return text_folder(tmp_path_factory.mktemp("world") / "texts", files=30, lines=12)


def writer(texts: Path, **changes: Any) -> TrainConfig:
    """A GPT with dropout, so that what is drawn at random counts."""
    values: dict[str, Any] = {
        "family": "gpt",
        "task": "text-generation",
        "dataset": str(texts),
        "epochs": 3,
        "length": 16,
        "batch": 16,
        "learning_rate": 5e-3,
        "threads": 1,
        "tokenizer": {"vocabulary": 280},
        "model": {"width": 16, "layers": 1, "heads": 2, "inner": 32, "dropout": 0.2},
    }
    return TrainConfig(**(values | changes))


def cut_at(step: int) -> Any:
    """A progress that is interrupted once so many steps are done."""

    def interrupt(what: str, done: int, total: int) -> None:
        if what.startswith("epoch") and done == step:
            raise KeyboardInterrupt

    return interrupt


@pytest.fixture(scope="module")
def whole(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a run that never stopped."""
    return train(writer(texts), tmp_path_factory.mktemp("whole") / "out").checkpoint


@pytest.mark.parametrize("step", [1, 7, 14, 20])
def test_going_on_equals_never_having_stopped(
    texts: Path, whole: Path, tmp_path: Path, step: int
) -> None:
    steps = json.loads((whole / "metrics.json").read_text())["steps"]
    assert step < steps
    with pytest.raises(KeyboardInterrupt):
        train(writer(texts), tmp_path / "out", progress=cut_at(step))
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["complete"], metrics["steps"]) == (False, step)
    assert not any(key.startswith("test_") for key in metrics)
    assert open_source(tmp_path / "out").task == "text-generation"
    train(writer(texts), tmp_path / "out", resume=True)
    for name in SAME:
        assert (tmp_path / "out" / name).read_bytes() == (whole / name).read_bytes(), name
    assert {p.name for p in (tmp_path / "out").iterdir()} == {p.name for p in whole.iterdir()}


def test_a_run_may_be_cut_off_again_and_again(texts: Path, whole: Path, tmp_path: Path) -> None:
    for step in (3, 9, 16):
        with pytest.raises(KeyboardInterrupt):
            train(writer(texts), tmp_path / "out", resume=True, progress=cut_at(step))
    train(writer(texts), tmp_path / "out", resume=True)
    assert (tmp_path / "out" / SAME[0]).read_bytes() == (whole / SAME[0]).read_bytes()


def test_rows_of_many_lengths_go_on_in_their_order(tmp_path: Path) -> None:
    data = judged_texts(tmp_path / "judged.jsonl", 120)
    config = TrainConfig(
        family="bert", task="text-classification", dataset=str(data), epochs=2, batch=16,
        length=24, threads=1, tokenizer={"vocabulary": 280},
        model={"width": 16, "layers": 1, "heads": 2, "inner": 32},
    )  # fmt: skip
    once = train(config, tmp_path / "once").checkpoint
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "twice", progress=cut_at(3))
    train(config, tmp_path / "twice", resume=True)
    name = "model.safetensors"
    assert (tmp_path / "twice" / name).read_bytes() == (once / name).read_bytes()


def test_another_configuration_does_not_go_on(texts: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(writer(texts), tmp_path / "out", progress=cut_at(2))
    changed = writer(texts, learning_rate=1e-3, epochs=5, threads=2)
    with pytest.raises(InputError, match="cannot go on") as raised:
        train(changed, tmp_path / "out", resume=True)
    assert "learning_rate was 0.005 and is 0.001" in str(raised.value)
    assert "epochs was 3 and is 5" in str(raised.value)
    assert "threads" not in str(raised.value)
    (tmp_path / "out" / "resume.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match="--force"):
        train(writer(texts), tmp_path / "out", resume=True)
    (tmp_path / "out" / "resume.safetensors").unlink()
    with pytest.raises(InputError, match=r"was cut off and lacks resume\.safetensors"):
        train(writer(texts), tmp_path / "out", resume=True)


def test_a_complete_run_does_not_go_on(whole: Path, texts: Path) -> None:
    before = (whole / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match="complete"):
        train(writer(texts), whole, resume=True)
    assert (whole / "model.safetensors").read_bytes() == before


PROGRAM = """
import sys
from edgetfm.training import train
from tests.training.test_resuming import writer
from pathlib import Path
def say(what, done, total):
    print(done, flush=True)
train(writer(Path(sys.argv[1]), epochs=int(sys.argv[3]), save_every=5), sys.argv[2], progress=say)
"""
LONG = 24
"""Epochs of 7 steps: the signal comes long before the last."""


@pytest.fixture(scope="module")
def long(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a run as long as that which is killed."""
    out = tmp_path_factory.mktemp("long") / "out"
    return train(writer(texts, epochs=LONG, save_every=5), out).checkpoint


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_leaves_a_run_that_goes_on(
    texts: Path, long: Path, tmp_path: Path, number: signal.Signals
) -> None:
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(texts), str(tmp_path / "out"), str(LONG)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
    ) as process:
        assert process.stdout is not None
        while int(process.stdout.readline() or -1) < 12:
            assert process.poll() is None
        process.send_signal(number)
        assert process.wait(timeout=60) != 0
    time.sleep(0.1)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["complete"] is False
    assert 10 <= metrics["steps"] < LONG * 7
    train(writer(texts, epochs=LONG, save_every=5), tmp_path / "out", resume=True)
    for name in SAME:
        assert (tmp_path / "out" / name).read_bytes() == (long / name).read_bytes(), name


def _said(key: str, name: str, value: Any) -> Any:
    def damage(folder: Path) -> None:
        file = folder / "resume.json"
        said = json.loads(file.read_text())
        (said if key == "" else said[key])[name] = value
        file.write_text(json.dumps(said))

    return damage


def _tensor(name: str, change: Any) -> Any:
    def damage(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        file = folder / "resume.safetensors"
        tensors = load_file(file)
        found = next(key for key in sorted(tensors) if key.startswith(name))
        made = change(tensors.pop(found))
        save_file(tensors | ({} if made is None else {found: made}), file)

    return damage


def _text(content: str) -> Any:
    def damage(folder: Path) -> None:
        (folder / "resume.json").write_text(content)

    return damage


@pytest.fixture(scope="module")
def cut(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was cut off in its second epoch."""
    folder = tmp_path_factory.mktemp("cut") / "out"
    with pytest.raises(KeyboardInterrupt):
        train(writer(texts), folder, progress=cut_at(12))
    return folder


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_said("position", "step", -1), "'step' is -1"),
        (_said("position", "step", "7"), "'step' is '7'"),
        (_said("position", "epoch", 9), "epoch 9 follows 1"),
        (_said("position", "curve", "x"), "no list of dicts|follows"),
        (_said("position", "losses", [[1, 2, 3]]), "'losses' holds more"),
        (_said("position", "other", 1), "unexpected keyword"),
        (_said("best", "epoch", 4), "best epoch is 4"),
        (_said("best", "score", None), "'score' is None"),
        (_said("", "config", 7), "does not hold a run"),
        (_said("", "position", []), "does not hold a run"),
        (_text("[" * 100_000), "does not hold a run"),
        (_text("[]"), "does not hold a run"),
        (_tensor("module.", lambda w: w[:1]), "has the shape"),
        (_tensor("module.", lambda w: w * float("nan")), "not finite"),
        (_tensor("module.", lambda w: None), "is missing"),
        (_tensor("best.", lambda w: w[None]), "has the shape"),
        (_tensor("optimizer.0.exp_avg", lambda w: w[:1]), "has the shape"),
        (_tensor("optimizer.0.exp_avg", lambda w: None), "some weights lack moments"),
    ],
)
def test_a_damaged_state_is_refused_in_a_sentence(
    texts: Path, cut: Path, tmp_path: Path, damage: Any, said: str
) -> None:
    folder = Path(shutil.copytree(cut, tmp_path / "out"))
    damage(folder)
    with pytest.raises(InputError, match=said):
        train(writer(texts), folder, resume=True)
    assert (folder / "resume.json").is_file()  # nothing was thrown away
