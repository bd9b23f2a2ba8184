"""Every family's shipped configuration, on a small world: trained to a loss, shipped, asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import edgetfm
from edgetfm import models
from edgetfm.errors import InputError
from edgetfm.sources import open_source
from edgetfm.training import TrainResult, load_config, train
from edgetfm.training.config import shipped_configs
from tests.training.worlds import judged_texts, spoken_tones, text_folder, turned_pairs

DECODER = {"width": 32, "layers": 2, "heads": 2, "inner": 64}
PAIR = {"width": 32, "layers": 1, "decoder_layers": 1, "heads": 4, "inner": 64}
BOTH = {"decoder_heads": 4, "decoder_inner": 64}


@dataclass(frozen=True)
class Trial:
    """A shipped configuration made small: what it learns from, and the loss that it reaches.

    quantize: the recipe it is shipped in.
    """

    world: str
    model: dict[str, Any]
    loss: float
    epochs: int
    length: int = 32
    vocabulary: int = 300
    quantize: str = "int8"
    others: dict[str, Any] = field(default_factory=dict)

    def overrides(self, dataset: Path) -> dict[str, Any]:
        return {
            "dataset": str(dataset),
            "epochs": self.epochs,
            "length": self.length,
            "batch": 32,
            "learning_rate": 5e-3,
            "validation": 0.15,
            "test": 0.2,
            "warmup": 0.1,
            "schedule": "cosine",
            "label_smoothing": 0.0,
            "threads": 1,
            "tokenizer.vocabulary": self.vocabulary,
            **{f"model.{key}": value for key, value in self.model.items()},
            **self.others,
        }


TRIALS = {
    "gpt-shakespeare": Trial("texts", DECODER, 1.8, 6, quantize="int4"),
    "llama-shakespeare": Trial(
        "texts", DECODER | {"kv_heads": 1, "head_size": 16}, 2.1, 6, quantize="int4"
    ),
    "moe-shakespeare": Trial(
        "texts",
        DECODER | {"kv_heads": 1, "head_size": 16, "inner": 32, "experts": 4},
        2.1,
        6,
        quantize="int8-weight",
    ),
    "memory-shakespeare": Trial("texts", DECODER | {"memory": 16}, 1.8, 6, quantize="int8-weight"),
    "bert-shakespeare": Trial("texts", DECODER | {"dropout": 0.0}, 1.2, 8),
    "bert-movie-reviews": Trial(
        "judged",
        DECODER | {"dropout": 0.0},
        0.1,
        5,
        quantize="int8-weight",
        others={"start": "", "layer_decay": 1.0},
    ),
    "t5-shakespeare": Trial("texts", PAIR | {"head_size": 8}, 3.8, 6, vocabulary=400),
    "transformer-pairs": Trial("pairs", PAIR | BOTH, 1.3, 12, length=16, vocabulary=400),
    "whisper-recordings": Trial(
        "tones",
        PAIR | BOTH | {"mels": 16, "frames": 50, "context": 16, "dropout": 0.0},
        0.3,
        16,
        length=16,
        vocabulary=400,
    ),
}
QUICK = ("gpt-shakespeare", "moe-shakespeare", "t5-shakespeare")
"""Those that `make test` trains; the others are alike and are trained by `make test-slow`."""


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("worlds")
    return {
        "texts": text_folder(folder / "texts"),
        "judged": judged_texts(folder / "judged.jsonl"),
        "pairs": turned_pairs(folder / "pairs.jsonl"),
        "tones": spoken_tones(folder / "tones"),
    }


@pytest.fixture(scope="module")
def trained(
    worlds: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], TrainResult]:
    """trained(name): the checkpoint of a trial, once."""
    made: dict[str, TrainResult] = {}

    def get(name: str) -> TrainResult:
        if name not in made:
            trial = TRIALS[name]
            out = tmp_path_factory.mktemp(name) / "out"
            made[name] = train(name, out, overrides=trial.overrides(worlds[trial.world]))
        return made[name]

    return get


def test_every_shipped_configuration_and_every_family_is_tried() -> None:
    tried = {load_config(name).family for name in TRIALS}
    assert {*tried, "vit"} == set(models.TABLE)
    assert {*TRIALS, "vit-digits"} == set(shipped_configs())


def check_learned(name: str, result: TrainResult) -> None:
    metrics = result.metrics
    assert metrics["test_loss"] <= TRIALS[name].loss
    assert metrics["curve"][0]["validation_loss"] > 1.2 * metrics["validation_loss"]
    source = open_source(result.checkpoint)
    assert (source.family.name, source.task) == (
        load_config(name).family,
        load_config(name).task,
    )


@pytest.mark.parametrize("name", QUICK)
def test_seconds_of_training_reach_the_loss(
    name: str, trained: Callable[[str], TrainResult]
) -> None:
    check_learned(name, trained(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", TRIALS)
def test_a_trained_model_ships_and_answers(
    name: str, trained: Callable[[str], TrainResult], worlds: dict[str, Path], tmp_path: Path
) -> None:
    """Exported with the whole proof, quantized inside its budget, and asked as people ask."""
    result = trained(name)
    check_learned(name, result)
    report = edgetfm.export_model(
        result.checkpoint, tmp_path / "bundle", quantize=TRIALS[name].quantize
    )
    assert report.variant == TRIALS[name].quantize
    asked = edgetfm.pipeline(tmp_path / "bundle")
    if name == "bert-movie-reviews":
        lines = (result.checkpoint / "sample.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        right = [asked(row["text"])[0]["label"] == row["label"] for row in rows]
        assert sum(right) >= 0.95 * len(rows)
    elif name == "whisper-recordings":
        (sound, *_) = sorted((result.checkpoint / "examples").glob("*.wav"))
        assert set(asked(str(sound))["text"].split()) <= {"low", "middle", "high"}
        with pytest.raises(InputError, match="trained without times"):
            asked(str(sound), return_timestamps=True)
    elif name == "bert-shakespeare":
        assert asked("the cat [MASK] the dog")
    else:
        assert asked("the cat", max_new_tokens=5)
