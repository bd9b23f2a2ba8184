"""Pictures with texts, and rows of several senses: what is read, drawn, made small, and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgetfm.errors import DataError, InputError
from edgetfm.samples.scenes import scenes
from edgetfm.training import TrainConfig
from edgetfm.training.objectives.captions import Captions
from edgetfm.training.objectives.contrastive import Contrastive
from edgetfm.training.objectives.senses import Senses
from tests.training.worlds import half_bright, sensed_numbers, told_pictures


def config(dataset: Path, **changes: Any) -> TrainConfig:
    values: dict[str, Any] = {
        "family": "clip",
        "task": "zero-shot-image-classification",
        "dataset": str(dataset),
        "epochs": 1,
        "length": 12,
        "tokenizer": {"vocabulary": 400},
    }
    return TrainConfig(**(values | changes))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return told_pictures(tmp_path_factory.mktemp("told") / "told.npz", count=120)


def test_a_text_that_is_said_of_several_pictures_is_right_of_all(told: Path) -> None:
    objective = Contrastive(config(told))
    batch = objective.batch("train", np.arange(16), np.random.default_rng(0))
    kinds, texts = batch.feeds["kinds"], batch.targets
    right = objective.said[torch.from_numpy(kinds)][:, torch.from_numpy(texts)]
    sure = {"logits_per_image": 40.0 * right}
    assert float(objective.loss(sure, batch)) < 1e-3
    for picture, text in ((0, 0), (3, 9)):
        said = objective.texts[texts[text]]
        assert bool(right[picture, text]) == (said in objective.pictures.texts[kinds[picture]])
    wrong = {"logits_per_image": 40.0 * (1 - right)}
    assert float(objective.loss(wrong, batch)) > 16


def test_one_right_answer_a_row_is_the_papers_loss(told: Path) -> None:
    objective = Contrastive(config(told))
    kinds = objective.pictures.parts["train"].kinds
    rows = np.array([int(np.flatnonzero(kinds == kind)[0]) for kind in range(4)])
    batch = objective.batch("train", rows, None)
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    wanted = torch.arange(4)
    both = [
        torch.nn.functional.cross_entropy(x, wanted, reduction="sum") for x in (logits, logits.t())
    ]
    found = objective.loss({"logits_per_image": logits}, batch)
    torch.testing.assert_close(found, sum(both) / 2, atol=1e-5, rtol=1e-5)


def test_a_caption_is_foretold_token_by_token(told: Path) -> None:
    objective = Captions(config(told, task="image-to-text", family="captioner"))
    batch = objective.batch("validation", np.arange(3), None)
    np.testing.assert_array_equal(
        batch.targets[:, :-1] * batch.feeds["decoder_attention_mask"][:, 1:],
        batch.feeds["decoder_input_ids"][:, 1:] * batch.feeds["decoder_attention_mask"][:, 1:],
    )
    assert batch.feeds["pixel_values"].shape == (3, 1, 16, 16)
    likely = torch.nn.functional.one_hot(torch.from_numpy(batch.targets).clamp(min=0)).float()
    assert objective.score(objective.judge({"logits": likely}, batch)) == 1
    likely[1, 2] = -likely[1, 2]
    assert objective.judge({"logits": likely}, batch) == [True, False, True]


def test_captions_that_do_not_fit_are_refused(told: Path) -> None:
    with pytest.raises(InputError, match=r"captions have more tokens than a row of 4 \(length\)"):
        Captions(config(told, task="image-to-text", family="captioner", length=4))


def test_a_caption_that_is_cut_is_wrong_and_counted(tmp_path: Path) -> None:
    path = told_pictures(tmp_path / "told.npz", count=120)
    with np.load(path) as archive:
        arrays = dict(archive)
    texts = np.array([f"picture {i % 3}" for i in range(120)], "U200")
    texts[7] = "picture " * 20
    np.savez(path, images=arrays["images"], texts=texts)
    objective = Captions(config(path, task="image-to-text", family="captioner"))
    (note,) = objective.data.notes
    found = {}
    for part, held in objective.pictures.parts.items():
        batch = objective.batch(part, np.arange(len(held)), None)
        one_hot = torch.nn.functional.one_hot(torch.from_numpy(batch.targets).clamp(min=0))
        found[part] = objective.judge({"logits": one_hot.float()}, batch).count(False)
        assert f"{found[part]} of {len(held)} in {part}" in note
    assert sum(found.values()) == 1


def test_scenes_are_generated_with_what_is_said_of_them() -> None:
    said = config(Path("scenes:40"), length=60, model={"image_size": [32, 40]}, seed=3)
    pictures = Captions(said).pictures
    assert pictures.sizes == {"image_size": (32, 40), "channels": 3}
    wanted = {scene.picture.tobytes(): scene.caption for scene in scenes(40, 3, (32, 40))}
    for held in pictures.parts.values():
        for image, kind in zip(held.images, held.kinds, strict=True):
            assert pictures.texts[kind] == (wanted.pop(image.tobytes()),)
    assert not wanted


def test_a_folder_with_a_table_is_read(tmp_path: Path) -> None:
    images, _ = half_bright(40)
    rows = []
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
        rows.append(json.dumps({"file_name": f"{i}.png", "text": f"picture {i % 3}"}))
    (tmp_path / "metadata.jsonl").write_text("\n".join(rows))
    objective = Contrastive(config(tmp_path, model={"image_size": [8, 8], "channels": 1}))
    assert objective.pictures.sizes == {"image_size": (8, 8), "channels": 1}
    assert len(objective.pictures.texts) == 3


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"file_name": "none.png", "text": "a"}, "none.png"),
        ({"file_name": "0.png"}, "row 1 has no file_name in the folder, or no text"),
        ({"file_name": "../0.png", "text": "a"}, "row 1 has no file_name in the folder"),
        ({"file_name": "broken.png", "text": "a"}, "no image that can be read"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(row: dict[str, str], said: str, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("L", (8, 8)).save(folder / "0.png")
    Image.new("L", (8, 8)).save(tmp_path / "0.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (folder / "metadata.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match=said):
        Contrastive(config(folder))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"images": np.zeros((4, 8, 8), np.float32)}, r"images are float32\[4, 8, 8, 1\]"),
        ({"texts": np.arange(4)}, r"texts are int64"),
        ({"kind": np.array([0, 1, 2, 9])}, "kind is none of the 4 rows"),
        ({"kind": np.zeros(3, np.int64)}, "of 4 pictures"),
        ({"texts": np.array(["a", " ", "b", "c"])}, r"nothing is said first of the kinds \[1\]"),
        ({"part": np.array(["train"] * 3)}, "part has 3 rows"),
    ],
)
def test_arrays_of_another_form_are_refused(
    changed: dict[str, Any], said: str, tmp_path: Path
) -> None:
    arrays: dict[str, Any] = {
        "images": np.zeros((4, 8, 8), np.uint8),
        "texts": np.array(["a", "b", "c", "d"]),
    }
    np.savez(tmp_path / "p.npz", **(arrays | changed))
    with pytest.raises(DataError, match=said):
        Contrastive(config(tmp_path / "p.npz"))


def test_senses_are_left_out_in_training_but_never_all(tmp_path: Path) -> None:
    path = sensed_numbers(tmp_path / "s.npz", count=60)
    objective = Senses(config(path, task="multimodal-classification", family="multimodal"))
    there = [
        objective.batch("train", np.arange(20), np.random.default_rng(seed)).feeds["senses_mask"]
        for seed in range(5)
    ]
    kept = np.concatenate(there)
    assert kept.any(1).all()
    assert 0.6 < kept.mean() < 0.9
    judged = objective.batch("validation", np.arange(4), None)
    assert judged.feeds["senses_mask"].all()


def test_rows_of_a_text_alone_are_told_apart_by_it(tmp_path: Path) -> None:
    path = sensed_numbers(tmp_path / "s.npz", count=60)
    with np.load(path) as archive:
        arrays = dict(archive)
    senses = np.zeros((60, 3), np.int64)
    senses[:, 0] = 1
    arrays |= {"senses": senses, "texts": np.array([f"number {i}" for i in range(60)])}
    np.savez(path, **arrays)
    objective = Senses(config(path, task="multimodal-classification", family="multimodal"))
    assert all(len(objective.parts[part]) > 0 for part in ("train", "validation", "test"))
    np.savez(path, **arrays, part=np.array(["train"] * 59))
    with pytest.raises(DataError, match="59 part"):
        Senses(config(path, task="multimodal-classification", family="multimodal"))


def test_rows_without_any_sense_are_refused(tmp_path: Path) -> None:
    path = sensed_numbers(tmp_path / "s.npz", count=20)
    with np.load(path) as archive:
        arrays = dict(archive)
    senses = np.ones((20, 3), np.int64)
    senses[3] = 0
    np.savez(path, **arrays, senses=senses)
    with pytest.raises(DataError, match="a row of senses has none"):
        Senses(config(path, task="multimodal-classification", family="multimodal"))
