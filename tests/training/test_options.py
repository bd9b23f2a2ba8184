"""What a configuration may ask for beside the plain run: each does what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from edgetfm.errors import InputError
from edgetfm.sources import open_source
from edgetfm.training import TrainConfig, train
from edgetfm.training.objectives import IGNORED
from edgetfm.training.optimizer import depth_below_top, make_optimizer
from edgetfm.training.run import Run
from edgetfm.training.teacher import Teacher
from tests.training.worlds import judged_texts, text_folder

SIZES = {"width": 16, "layers": 2, "heads": 2, "inner": 32}


def judge(data: Path, **changes: Any) -> TrainConfig:
    values: dict[str, Any] = {
        "family": "bert",
        "task": "text-classification",
        "dataset": str(data),
        "epochs": 2,
        "batch": 16,
        "length": 32,
        "learning_rate": 5e-3,
        "threads": 1,
        "tokenizer": {"vocabulary": 300},
        "model": SIZES,
    }
    return TrainConfig(**(values | changes))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return judged_texts(tmp_path_factory.mktemp("world") / "judged.jsonl", 260)


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "out"
    return train(judge(data, epochs=16), out).checkpoint


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A masked language model of the same sizes and another vocabulary."""
    folder = tmp_path_factory.mktemp("masked")
    config = judge(text_folder(folder / "texts", 20, 20), task="fill-mask", epochs=1)
    return train(config, folder / "out").checkpoint


# --- starting from another model ----------------------------------------------------------------


def test_a_head_is_swapped_and_the_rest_goes_on(data: Path, masked: Path) -> None:
    run = Run(judge(data, start=str(masked), tokenizer={}, model={}))
    run.prepare(None)
    mine, theirs = run.plain.state_dict(), weights(masked)
    assert run.fresh
    assert all(name.startswith("classifier.") for name in run.fresh)
    for name in set(mine) - set(run.fresh):
        assert torch.equal(mine[name], theirs[name]), name
    assert run.model_config.labels == 2
    assert run.model_config.width == SIZES["width"]


def test_a_real_hugging_face_model_is_started_from(data: Path, masked_lm_folder: Path) -> None:
    config = judge(data, start=str(masked_lm_folder), tokenizer={}, model={}, freeze=["embeddings"])
    run = Run(config)
    run.prepare(None)
    theirs = open_source(masked_lm_folder).module().state_dict()
    name = "embeddings.words.weight"
    assert torch.equal(run.plain.state_dict()[name], theirs[name])
    assert run.objective.tokenizer.vocabulary <= run.model_config.vocabulary  # type: ignore[attr-defined]
    assert set(run.fresh) == {n for n in run.plain.state_dict() if n.startswith("classifier.")}


def test_a_classifier_keeps_its_head_if_the_labels_are_as_many(data: Path, trained: Path) -> None:
    run = Run(judge(data, start=str(trained), tokenizer={}, model={}))
    run.prepare(None)
    assert run.fresh == ()
    assert run.evaluate("test")[0] > 0.9


def test_what_cannot_be_started_from_is_said(data: Path, masked: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder of a model"):
        Run(judge(data, start=str(tmp_path / "absent")))
    with pytest.raises(InputError, match="leave sizes out"):
        Run(judge(data, start=str(masked), tokenizer={}, model={"width": 32})).prepare(None)
    with pytest.raises(InputError, match="is a bert, not a gpt"):
        Run(judge(text_folder(tmp_path / "t"), start=str(masked), family="gpt",
                  task="text-generation"))  # fmt: skip


# --- which weights are learned, and how fast ----------------------------------------------------


def test_frozen_weights_stay_and_others_do_not(data: Path, masked: Path, tmp_path: Path) -> None:
    config = judge(
        data, start=str(masked), tokenizer={}, model={}, freeze=[r"^embeddings\.", r"layers\.0\."]
    )
    after, before = weights(train(config, tmp_path / "out").checkpoint), weights(masked)
    for name, tensor in after.items():
        if name in before:
            frozen = name.startswith(("embeddings.", "layers.0."))
            assert torch.equal(tensor, before[name]) == frozen, name


def test_a_pattern_of_no_weight_is_refused(data: Path) -> None:
    with pytest.raises(InputError, match="'encoder', which matches no weight"):
        Run(judge(data, freeze=["encoder"])).prepare(None)
    with pytest.raises(InputError, match="leaves no weight"):
        Run(judge(data, freeze=["."])).prepare(None)
    with pytest.raises(InputError, match="no regular expression"):
        judge(data, freeze=["("])


def test_a_lower_layer_learns_more_slowly(data: Path) -> None:
    run = Run(judge(data, layer_decay=0.5))
    run.prepare(None)
    depths = depth_below_top(run.plain)
    assert depths["embeddings.words.weight"] == 3
    assert depths["layers.0.attention.qkv.weight"] == 2
    assert depths["layers.1.attention.qkv.weight"] == 1
    assert depths["classifier.out.weight"] == 0
    scales = {
        id(p): group["scale"]
        for group in make_optimizer(run.plain, run.config).param_groups
        for p in group["params"]
    }
    for name, parameter in run.plain.named_parameters():
        assert scales[id(parameter)] == 0.5 ** depths[name]


def test_vectors_are_not_decayed(data: Path) -> None:
    run = Run(judge(data, weight_decay=0.3))
    run.prepare(None)
    for group in make_optimizer(run.plain, run.config).param_groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.3 if parameter.ndim > 1 else 0.0)


# --- memory and precision -----------------------------------------------------------------------


def test_layers_that_are_computed_twice_learn_the_same(data: Path, tmp_path: Path) -> None:
    plain, thrifty = (
        judge(data, epochs=1, model=SIZES | {"dropout": 0.2}, gradient_checkpointing=thrift)
        for thrift in (False, True)
    )
    one, two = (
        weights(train(c, tmp_path / n).checkpoint) for c, n in ((plain, "a"), (thrifty, "b"))
    )
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "gpt"])
def test_half_of_the_bits_learn_as_much(family: str, data: Path, tmp_path: Path) -> None:
    config = judge(data, epochs=8)
    if family == "gpt":
        folder = text_folder(tmp_path / "texts")
        config = judge(folder, family="gpt", task="text-generation", epochs=6)
    losses = []
    for precision in ("fp32", "bf16"):
        changed = {**config.to_json(), "precision": precision}
        done = train(TrainConfig.from_dict(changed), tmp_path / precision)
        losses.append(done.metrics["test_loss"])
        kept = weights(done.checkpoint)
        assert {w.dtype for w in kept.values()} == {torch.float32}
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], abs=0.1)


# --- a teacher ----------------------------------------------------------------------------------


def test_a_teacher_who_agrees_teaches_nothing(data: Path, trained: Path) -> None:
    teacher = Teacher(
        judge(data, teacher={"source": str(trained), "temperature": 3.0}),
        open_source(trained).config,
    )
    torch.manual_seed(0)
    logits = torch.randn(5, 7, 4, requires_grad=True)
    targets = torch.arange(35).reshape(5, 7) % 4
    assert float(teacher.summed_loss(logits, logits.detach(), targets).detach()) == pytest.approx(
        0.0, abs=1e-5
    )
    taught = torch.randn(5, 7, 4)
    # By hand: T^2 sum p log(p / q) over the targets that count.
    p = torch.softmax(taught / 3, -1)
    by_hand = 9 * (p * (p.log() - torch.log_softmax(logits / 3, -1))).sum(-1)
    targets[2:] = IGNORED
    found = teacher.summed_loss(logits, taught, targets)
    assert float(found.detach()) == pytest.approx(float(by_hand[:2].sum().detach()), rel=1e-5)


def test_a_student_learns_from_answers_alone(data: Path, trained: Path, tmp_path: Path) -> None:
    """With a weight of 1 the labels are not looked at: all of them are turned around."""
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    for row in rows:
        row["label"] = {"good": "bad", "bad": "good"}[row["label"]]
    turned = tmp_path / "turned.jsonl"
    turned.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = {"source": str(trained), "weight": 1.0}
    config = judge(turned, teacher=said, tokenizer={"path": str(trained)}, epochs=16)
    curve = train(config, tmp_path / "student").metrics["curve"]
    assert curve[-1]["validation_accuracy"] <= 0.1
    assert curve[-1]["loss"] < 0.2 * curve[0]["loss"]


def test_a_teacher_of_other_labels_is_refused(data: Path, masked: Path, tmp_path: Path) -> None:
    config = judge(data, task="fill-mask", teacher={"source": str(masked)},
                   tokenizer={"vocabulary": 270})  # fmt: skip
    with pytest.raises(InputError, match="vocabulary is "):
        train(config, tmp_path / "out")


# --- several processes --------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_learn_what_one_does(data: Path, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    lines = [
        'family = "bert"', 'task = "text-classification"', f'dataset = "{data}"', "epochs = 2",
        "batch = 15", "length = 32", "threads = 1", "[tokenizer]", "vocabulary = 300", "[model]",
        *(f"{key} = {value}" for key, value in (SIZES | {"dropout": 0.0}).items()),
    ]  # fmt: skip
    (tmp_path / "c.toml").write_text("\n".join(lines))
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    train(tmp_path / "c.toml", tmp_path / "one")
    done = subprocess.run(
        [*launch, "-m", "edgetfm", "train", str(tmp_path / "c.toml"), "-o", str(tmp_path / "two")],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name in one:
        np.testing.assert_allclose(one[name], two[name], atol=2e-3, err_msg=name)
    metrics = [json.loads((tmp_path / n / "metrics.json").read_text()) for n in ("one", "two")]
    assert metrics[0]["steps"] == metrics[1]["steps"]
    assert metrics[1]["test_loss"] == pytest.approx(metrics[0]["test_loss"], abs=1e-2)
