"""Every family's shipped configuration, on a small world: trained to a loss, shipped, asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import edgetfm
import edgetfm.runtime
from edgetfm import models
from edgetfm.errors import InputError
from edgetfm.sources import open_source
from edgetfm.training import TrainResult, load_config, train
from edgetfm.training.config import shipped_configs
from tests.training.worlds import (
    HALVES,
    judged_texts,
    sensed_numbers,
    spoken_tones,
    text_folder,
    told_pictures,
    turned_pairs,
)

TILES = {"image_size": [16, 16], "patch_size": [8, 8], "channels": 1}
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
            # Settings that a task would not use are refused.
            **({} if self.world == "scenes" else {"tokenizer.vocabulary": self.vocabulary}),
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
    "captioner-scenes": Trial(
        "told",
        PAIR | BOTH | TILES | {"stem": 8, "widths": [8, 16], "depths": [1, 1]},
        0.1,
        8,
        length=16,
        vocabulary=400,
        others={"flip": ""},
    ),
    "clip-fashion": Trial(
        "told",
        TILES | {"image_layers": 1, "text_layers": 1, "dropout": 0.0},
        0.1,
        6,
        length=12,
        others={"flip": ""},
    ),
    "multimodal-digits": Trial(
        "sensed", TILES | {"width": 32, "inner": 64, "layers": 1, "dropout": 0.0}, 0.3, 8, length=8
    ),
    "segmenter-scenes": Trial(
        "scenes",
        {"image_size": [32, 32], "width": 32, "layers": 1, "heads": 4, "inner": 64},
        0.45,
        8,
        # Of fewer scenes a few that are seen wrongly decide what the test says.
        others={"dataset": "scenes:1200", "batch": 8, "learning_rate": 3e-3},
    ),
    "detr-scenes": Trial(
        "scenes",
        {
            **{"image_size": [32, 32], "width": 32, "queries": 9, "heads": 4, "inner": 64},
            **{"decoder_layers": 1, "decoder_heads": 4, "decoder_inner": 64},
            **{"stem": 8, "widths": [8, 16]},
        },
        4.9,
        16,
        others={"batch": 16},
        # After seconds of learning its queries decide by hairs: 8 bits keep 98 % of the answers.
        quantize="fp16",
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
        "scenes": Path("scenes:400"),
        "told": told_pictures(folder / "told.npz"),
        "sensed": sensed_numbers(folder / "sensed.npz"),
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
    elsewhere = {"vit-digits", "vit-digits-student", "vit-fashion"}
    assert {*TRIALS, *elsewhere} == set(shipped_configs())


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


def check_pictures(asked: edgetfm.runtime.Pipeline, checkpoint: Path, folder: Path) -> None:
    """Pictures of every kind are answered in their own pixels; a damaged one is said to be."""
    from PIL import Image

    first, *_ = sorted((checkpoint / "examples").glob("*.png"))
    image = Image.open(first).convert("RGB")
    sideways = image.resize((40, 20))
    exif = sideways.getexif()
    exif[0x0112] = 6  # turned by a quarter
    kinds = {
        "dot.png": image.resize((1, 1)),
        "line.png": image.resize((10_000, 10)),
        "grey.png": image.convert("L"),
        "palette.png": image.convert("P"),
        "alpha.png": image.convert("RGBA"),
        "cmyk.jpg": image.convert("CMYK"),
    }
    for name, kind in kinds.items():
        kind.save(folder / name)
    sideways.save(folder / "turned.jpg", exif=exif)
    sizes = {name: kind.size for name, kind in kinds.items()} | {"turned.jpg": (20, 40)}
    for name, (width, height) in sizes.items():
        for found in asked(str(folder / name)):
            if "mask" in found:
                assert found["mask"].shape == (height, width), name
                continue
            box = found["box"]
            assert -width <= box["xmin"] <= box["xmax"] <= 2 * width, name
            assert -height <= box["ymin"] <= box["ymax"] <= 2 * height, name
    if asked.task == "object-detection":
        assert asked(str(first), threshold=1.0) == [], "no object at all"
    (folder / "cut.png").write_bytes(first.read_bytes()[:300])
    with pytest.raises(InputError, match="cannot be read as an image"):
        asked(str(folder / "cut.png"))


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
    elif name in ("captioner-scenes", "clip-fashion", "multimodal-digits"):
        check_seen(name, asked, result.checkpoint / "examples")
    elif name.endswith("-scenes"):
        check_pictures(asked, result.checkpoint, tmp_path)
    elif name == "bert-shakespeare":
        assert asked("the cat [MASK] the dog")
    else:
        assert asked("the cat", max_new_tokens=5)


def check_seen(name: str, asked: edgetfm.runtime.Pipeline, examples: Path) -> None:
    """What was learned is told of pictures that were not trained on, by their brightest half."""
    right = 0
    pictures = sorted(examples.glob("*.png"))
    for path in pictures:
        with Image.open(path) as image:
            pixels = np.asarray(image, np.float64)
        means = [pixels[:8], pixels[8:], pixels[:, :8], pixels[:, 8:]]
        half = HALVES[int(np.argmax([part.mean() for part in means]))]
        if name == "captioner-scenes":
            right += asked(str(path))[0]["generated_text"] == f"it is bright {half}"
        elif name == "clip-fashion":
            found = asked(str(path), candidate_labels=HALVES, hypothesis_template="it is bright {}")
            right += found[0]["label"] == half
        else:
            odd = half == "above"
            number = {True: {"small": 1, "large": 3}, False: {"small": 0, "large": 2}}[odd]
            for word in ("small", "large"):
                found = asked({"text": word, "image": str(path)})
                right += found[0]["label"] == f"number {number[word]}"
    assert right >= 0.8 * len(pictures) * (2 if name == "multimodal-digits" else 1)
