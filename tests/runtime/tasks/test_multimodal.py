"""What is told of several senses is answered whichever of them are there; nothing is refused."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgetfm.cli._senses import check_senses
from edgetfm.errors import InputError
from edgetfm.models.multimodal import FAMILY, SENSES, MultimodalConfig
from edgetfm.runtime.pipelines import Pipeline
from edgetfm.runtime.preprocess import Preprocessor
from edgetfm.scoring.evaluation import read_eval
from edgetfm.scoring.labelled import pipeline_of
from edgetfm.sources import eager, open_source
from edgetfm.tasks import TASKS
from edgetfm.training import TrainConfig
from edgetfm.training.checkpoint import write_checkpoint
from edgetfm.training.objectives.senses import Senses
from tests.training.worlds import sensed_numbers

TASK = FAMILY.tasks[0]
SIZES = {
    "patch_size": (8, 8), "width": 32, "layers": 1, "text_layers": 1, "image_layers": 1,
    "audio_layers": 1, "heads": 2, "inner": 32, "context": 8, "mels": 16,
}  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that has learned nothing, with examples."""
    root = tmp_path_factory.mktemp("senses")
    config = TrainConfig(
        family=FAMILY.name, task=TASK, dataset=str(sensed_numbers(root / "s.npz", count=60)),
        epochs=1, length=8, tokenizer={"vocabulary": 300}, model={"mels": 16},
    )  # fmt: skip
    objective = Senses(config)
    sizes = MultimodalConfig(**{**SIZES, **objective.follows()})
    torch.manual_seed(0)
    module = FAMILY.build(sizes, TASK)
    inputs = tuple(t.name for t in FAMILY.inputs(sizes, TASK))
    write_checkpoint(
        root / "checkpoint", family=FAMILY, task=TASK, config=sizes, labels=objective.labels,
        weights=module.state_dict(), metrics={}, files=objective.files(inputs),
    )  # fmt: skip
    return root / "checkpoint"


@pytest.fixture(scope="module")
def ask(checkpoint: Path) -> Pipeline:
    """The module itself, asked as a bundle is."""
    opened = open_source(checkpoint)
    prepare = Preprocessor.from_folder(checkpoint, opened.preprocessing, opened.signature)
    return pipeline_of(TASKS[TASK], opened.labels, eager(opened.module()), prepare)


@pytest.fixture(scope="module")
def item(checkpoint: Path) -> dict[str, str]:
    examples = checkpoint / "examples"
    text = (examples / "texts.tsv").read_text().split("\t")[0]
    return {"text": text, "image": str(examples / "0.png"), "audio": str(examples / "0.wav")}


def scores(answer: list[dict[str, Any]]) -> list[float]:
    return [row["score"] for row in sorted(answer, key=lambda row: str(row["label"]))]


def test_any_of_the_senses_may_be_given(ask: Pipeline, item: dict[str, str]) -> None:
    chosen = [c for n in (1, 2, 3) for c in combinations(SENSES, n)]
    items = [{sense: item[sense] for sense in senses} for senses in chosen]
    alone = [scores(ask(one)) for one in items]
    for row in alone:
        assert sum(row) == pytest.approx(1)
    assert len({tuple(np.round(row, 5)) for row in alone}) == len(alone), "each counts"
    together = [scores(answer) for answer in ask(items, batch_size=3)]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    none = [item | dict.fromkeys(SENSES[1:]), {"text": item["text"]}]
    assert ask(none[0]) == ask(none[1]), "None is missing"


def test_odd_pictures_and_sounds_are_read_or_named(
    ask: Pipeline, item: dict[str, str], tmp_path: Path
) -> None:
    odd = [Image.new("RGB", (1, 1)), Image.new("P", (3, 70)), Image.new("CMYK", (9, 9))]
    sounds = [np.zeros(1, np.float32), (np.zeros(90, np.float32), 8000)]
    answers = ask([{"image": picture, "audio": sounds[i % 2]} for i, picture in enumerate(odd)])
    assert [sum(scores(answer)) for answer in answers] == pytest.approx([1, 1, 1])
    (tmp_path / "cut.png").write_bytes(Path(item["image"]).read_bytes()[:60])
    with pytest.raises(InputError, match=r"cut\.png"):
        ask({"image": tmp_path / "cut.png"})
    with pytest.raises(InputError, match=r"none\.wav"):
        ask({"audio": tmp_path / "none.wav"})


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ({}, "item 0 is empty: give at least one of text, image, audio"),
        ([{"text": "a"}, {"text": None, "image": None}], "item 1 is empty"),
        ({"text": "a", "video": "b"}, "item 0 has video, expected a dict of text, image and audio"),
        ({"text": 3}, "item 0: the text is int"),
        (["a text"], "item 0 is str"),
        ("a text", "got str"),
    ],
)
def test_what_is_no_item_is_refused(items: Any, said: str, ask: Pipeline) -> None:
    with pytest.raises(InputError, match=said):
        ask(items)


def test_the_command_takes_a_sense_each() -> None:
    check_senses(TASK, {"audio": "a.wav"}, ())
    check_senses("fill-mask", {}, ("a text",))
    for task, senses, inputs, said in (
        (TASK, {}, ("a text",), "takes no INPUT: give any of --text, --image and --audio"),
        (TASK, {}, (), "needs at least one of --text, --image and --audio"),
        ("fill-mask", {"text": "a"}, (), "--text is for multimodal-classification"),
    ):
        with pytest.raises(InputError, match=said):
            check_senses(task, senses, inputs)


def test_accuracy_counts_rows_of_any_senses(
    checkpoint: Path, ask: Pipeline, item: dict[str, str]
) -> None:
    examples = checkpoint / "examples"
    asked = [{"image": "0.png"}, {"audio": "0.wav", "text": item["text"]}, {"text": item["text"]}]
    found = [
        ask({k: v if k == "text" else examples / v for k, v in row.items()})[0]["label"]
        for row in asked
    ]
    wrong = next(f"number {i}" for i in range(4) if f"number {i}" != found[2])
    labels = [*found[:2], wrong]
    rows = [json.dumps({**row, "label": label}) for row, label in zip(asked, labels, strict=True)]
    (examples / "rows.jsonl").write_text("\n".join(rows))
    data = read_eval(str(examples / "rows.jsonl"), TASKS[TASK], tuple(ask.asked.labels))
    assert data.score(ask).value == pytest.approx(2 / 3)
