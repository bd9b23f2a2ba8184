"""Training learns, repeats itself bit for bit, and saves what it has when it is cut off."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from edgetfm.errors import DataError, InputError, OutputError, SourceError
from edgetfm.sources import open_source
from edgetfm.training import TrainConfig, TrainResult, train
from edgetfm.training.data import load_dataset, pixel_values
from edgetfm.training.objectives import Batch
from edgetfm.training.objectives.pictures import Pictures
from edgetfm.training.schedules import warmup_cosine

CHECKPOINT = {
    "config.json",
    "model.safetensors",
    "preprocessor_config.json",
    "metrics.json",
    "report.html",
    "sample.npz",
    "examples",
}


def tiny(**changes: Any) -> TrainConfig:
    model = {"patch_size": [4, 4], "width": 32, "layers": 2, "heads": 2, "inner": 32}
    values: dict[str, Any] = {
        "family": "vit",
        "task": "image-classification",
        "dataset": "digits",
        "epochs": 8,
        "batch": 32,
        "learning_rate": 5e-3,
        "threads": 1,
        "model": model,
    }
    return TrainConfig(**(values | changes))


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return train(tiny(), tmp_path_factory.mktemp("run") / "checkpoint")


def test_a_few_seconds_of_training_learn_the_digits(result: TrainResult) -> None:
    metrics = result.metrics
    assert metrics["test_accuracy"] >= 0.94
    assert metrics["test_loss"] <= 0.3
    losses = [point["loss"] for point in metrics["curve"]]
    assert losses[0] > 1.0 > 0.3 > losses[-1]
    assert metrics["complete"] is True
    assert metrics == json.loads((result.checkpoint / "metrics.json").read_text())


def test_the_best_epoch_is_the_one_that_is_kept(result: TrainResult) -> None:
    curve = result.metrics["curve"]
    best = max(curve, key=lambda p: (p["validation_accuracy"], -p["validation_loss"]))
    assert best["epoch"] == result.metrics["best_epoch"]
    source = open_source(result.checkpoint)
    data = load_dataset("digits")
    for split, said in (
        (data.validation, result.metrics["validation_accuracy"]),
        (data.test, result.metrics["test_accuracy"]),
    ):
        logits = source.reference()({"pixel_values": pixel_values(split.images)})["logits"]
        assert (logits.argmax(-1) == split.labels).mean() == pytest.approx(said, abs=0.003)


def test_a_checkpoint_is_a_source(result: TrainResult) -> None:
    assert {p.name for p in result.checkpoint.iterdir()} == CHECKPOINT
    source = open_source(result.checkpoint)
    assert (source.kind, source.family.name, source.task) == (
        "checkpoint",
        "vit",
        "image-classification",
    )
    assert source.labels == tuple("0123456789")
    assert source.config.image_size == (8, 8)
    assert source.config.channels == 1
    image = source.preprocessing["image"]
    assert (image["size"], image["mean"], image["std"], image["channels"]) == (
        *([8, 8], [0.5], [0.5]),
        1,
    )
    assert source.sample == result.checkpoint / "sample.npz"


def test_the_sample_is_of_validation_images_only(result: TrainResult) -> None:
    data = load_dataset("digits")
    with np.load(result.checkpoint / "sample.npz") as sample:
        pixels, labels = sample["pixel_values"], sample["labels"]
    assert pixels.shape == (min(256, len(data.validation)), 1, 8, 8)
    np.testing.assert_array_equal(labels, data.validation.labels[:256])
    seen = {p.tobytes() for p in pixels}
    assert not seen & {p.tobytes() for p in pixel_values(data.test.images)}
    assert not seen & {p.tobytes() for p in pixel_values(data.train.images)}


def test_the_examples_are_test_images_under_their_labels(result: TrainResult) -> None:
    data = load_dataset("digits")
    known = {i.tobytes(): int(n) for i, n in zip(data.test.images, data.test.labels, strict=True)}
    examples = sorted((result.checkpoint / "examples").iterdir())
    assert len(examples) == 5
    for path in examples:
        with Image.open(path) as picture:
            label = known[np.asarray(picture).tobytes()]
        assert path.stem.endswith(f"-label-{label}")


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    config = tiny(epochs=1, shift=1, model=tiny().model | {"dropout": 0.1})
    runs = [train(config, tmp_path / name).checkpoint for name in "ab"]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.are_deterministic_algorithms_enabled()
    for name in ("model.safetensors", "config.json", "sample.npz", "metrics.json"):
        assert (runs[0] / name).read_bytes() == (runs[1] / name).read_bytes(), name
    other = train(config, tmp_path / "c", overrides={"seed": 1}).checkpoint
    one, two = (load_file(run / "model.safetensors") for run in (runs[0], other))
    assert any(not np.array_equal(one[name], two[name]) for name in one)


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [warmup_cosine(step, 100, 0.1) for step in range(100)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert 0.0 < rates[-1] < 0.001
    assert warmup_cosine(0, 1, 0.0) == warmup_cosine(0, 1, 1.0) == 1.0


# --- cut off ------------------------------------------------------------------------------------


def test_an_interrupt_saves_the_best_so_far(tmp_path: Path) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if what.startswith("epoch 3/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny(), tmp_path / "out", progress=interrupt)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["complete"] is False
    assert metrics["best_epoch"] in (1, 2)
    assert len(metrics["curve"]) == 2
    assert open_source(tmp_path / "out").task == "image-classification"


def test_an_interrupt_before_there_is_anything_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny(), tmp_path / "out", progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def spoil(monkeypatch: pytest.MonkeyPatch, image_in: int) -> None:
    """From the `image_in`-th training batch on, the pixels are not finite."""
    made, plain = 0, Pictures.batch

    def spoiled(self: Pictures, part: Any, rows: Any, random: Any) -> Batch:
        nonlocal made
        batch = plain(self, part, rows, random)
        made += random is not None
        broken = {name: a * np.float32(np.nan) for name, a in batch.feeds.items()}
        return replace(batch, feeds=broken) if made >= image_in else batch

    monkeypatch.setattr(Pictures, "batch", spoiled)


def test_a_loss_that_is_not_finite_stops_with_the_last_good_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, 41)
    steps = math.ceil(len(load_dataset("digits").train) / 32)
    assert 35 <= steps < 41
    with pytest.raises(DataError, match=r"diverged at step 41 \(epoch 2\).*loss is nan.*epoch 1"):
        train(tiny(), tmp_path / "out")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["complete"], metrics["best_epoch"]) == (False, 1)
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert all(np.isfinite(w).all() for w in weights.values())


def test_a_loss_that_is_not_finite_at_once_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, 1)
    with pytest.raises(DataError, match=r"diverged at step 1 .*nothing is kept.*learning_rate"):
        train(tiny(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


# --- what cannot be -----------------------------------------------------------------------------


def test_an_output_that_exists_is_refused_before_any_work(
    result: TrainResult, tmp_path: Path
) -> None:
    before = (result.checkpoint / "model.safetensors").read_bytes()
    with pytest.raises(OutputError, match="--force"):
        train(tiny(), result.checkpoint)
    assert (result.checkpoint / "model.safetensors").read_bytes() == before
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_text("cat")
    (tmp_path / "file").write_text("")
    for name in ("photos", "file"):
        with pytest.raises(OutputError, match="left alone"):
            train(tiny(), tmp_path / name, force=True)
    with pytest.raises(OutputError, match="is not a folder"):
        train(tiny(), tmp_path / "file" / "run")
    with pytest.raises(OutputError):
        train(tiny(), tmp_path / ("x" * 300))


def test_force_replaces_a_checkpoint(tmp_path: Path) -> None:
    config = tiny(epochs=1)
    train(config, tmp_path / "out")
    (tmp_path / "out" / "model.safetensors").write_bytes(b"")
    train(config, tmp_path / "out", force=True)
    assert open_source(tmp_path / "out").labels == tuple("0123456789")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": {"widht": 3}}, r"unknown key 'model\.widht'"),
        ({"model": {"labels": 3}}, r"model\.labels is 3, but digits has 10"),
        ({"model": {"image_size": [9, 9]}}, r"model\.image_size is \(9, 9\)"),
        ({"model": {"channels": 3}}, r"model\.channels is 3, but digits has 1"),
        ({"model": {}}, "does not make a vit"),
        ({"model": tiny().model | {"heads": 3}}, "heads"),
        ({"model": tiny().model | {"width": "wide"}}, "width"),
        ({"model": tiny().model | {"activation": "gelo"}}, "activation"),
        ({"model": tiny().model | {"patch_size": [0, 4]}}, "patch_size"),
        ({"model": tiny().model | {"width": 2**40}}, "width is 1099511627776, expected at most"),
        ({"dataset": "numbers"}, "no dataset 'numbers'"),
        ({"family": "vgg"}, "unknown family 'vgg'"),
        ({"task": "fill-mask"}, "has no task"),
        ({"task": "image-feature-extraction"}, "training knows the tasks"),
    ],
)
def test_a_run_that_cannot_be_is_refused(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises((InputError, SourceError), match=said):
        train(tiny(**changes), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_colour_images_in_a_file_are_trained_on(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    labels = np.arange(200) % 2
    images = random.integers(0, 100, size=(200, 4, 6, 3), dtype=np.uint8)
    images[labels == 1, :, :, 0] += 150
    np.savez(tmp_path / "red.npz", images=images, labels=np.array(["green", "red"])[labels])
    config = tiny(
        dataset=str(tmp_path / "red.npz"), model=tiny().model | {"patch_size": [2, 3]}, epochs=4
    )
    done = train(config, tmp_path / "out")
    assert done.metrics["test_accuracy"] == 1.0
    source = open_source(done.checkpoint)
    assert source.labels == ("green", "red")
    assert source.config.image_size == (4, 6)


@pytest.mark.slow
def test_a_student_of_a_teacher_beats_the_same_student_alone(tmp_path: Path) -> None:
    """The shipped configurations, the student cut short: on three seeds, as docs/training says."""
    teacher = train("vit-digits", tmp_path / "teacher")
    assert teacher.metrics["test_accuracy"] >= 0.96
    cut = {"teacher.source": str(teacher.checkpoint), "epochs": 16}
    for seed in range(3):
        alone, taught = (
            train("vit-digits-student", tmp_path / name, overrides=cut | {"seed": seed} | more,
                  force=True).metrics["test_accuracy"]
            for name, more in (("alone", {"teacher.weight": 0.0}), ("taught", {}))
        )  # fmt: skip
        assert taught > alone + 0.03, f"seed {seed}: {taught} of a teacher, {alone} alone"
