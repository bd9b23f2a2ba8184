"""Images are split by their content, moved only in training, and bad data is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgetfm.errors import DataError
from edgetfm.training.data import (
    SPLITS,
    Dataset,
    load_dataset,
    pixel_values,
    shifted,
    split,
)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def contents(data: Dataset) -> list[set[bytes]]:
    return [{i.tobytes() for i in s.images} for s in (data.train, data.validation, data.test)]


def test_digits_fall_into_three_splits_without_a_common_image(digits: Dataset) -> None:
    train, validation, test = contents(digits)
    assert not train & validation
    assert not train & test
    assert not validation & test
    total = len(digits.train) + len(digits.validation) + len(digits.test)
    assert total == 1797
    for part, share in SPLITS.items():
        assert len(getattr(digits, part)) / total == pytest.approx(share, abs=0.03)
    assert digits.labels == tuple("0123456789")
    assert (digits.height, digits.width, digits.channels) == (8, 8, 1)
    assert digits.train.images.max() == 255


def test_duplicates_stay_together_whatever_stands_around_them() -> None:
    random = np.random.default_rng(0)
    once = random.integers(0, 256, size=(60, 4, 4, 1), dtype=np.uint8)
    names = [str(i % 2) for i in range(60)]
    doubled = split("d", np.concatenate([once, once]), names * 2)
    single = split("d", once, names)
    assert contents(doubled) == contents(single)
    assert len(doubled.test) == 2 * len(single.test)
    backwards = split("d", once[::-1].copy(), names[::-1])
    assert contents(backwards) == contents(single)


def test_pixels_go_from_minus_one_to_one_channels_first() -> None:
    images = np.zeros((2, 3, 5, 3), np.uint8)
    images[0, 1, 2] = (0, 255, 51)
    values = pixel_values(images)
    assert values.shape == (2, 3, 3, 5)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values[0, :, 1, 2], [-1.0, 1.0, -0.6], atol=1e-6)


def test_a_shift_moves_an_image_and_fills_with_black() -> None:
    images = np.full((64, 3, 3, 1), 7, np.uint8)
    images[:, 1, 1] = 200
    moved = shifted(images, 1, np.random.default_rng(0))
    places = {tuple(np.argwhere(m[..., 0] == 200)[0]) for m in moved}
    assert places == {(r, c) for r in range(3) for c in range(3)}
    for image in moved:
        row, column = np.argwhere(image[..., 0] == 200)[0]
        assert (image == 0).sum() == 9 - (3 - abs(row - 1)) * (3 - abs(column - 1))
    assert shifted(images, 0, np.random.default_rng(0)) is images


def save(path: Path, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return str(path)


def test_an_npz_file_is_a_dataset(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, size=(80, 6, 4, 3), dtype=np.uint8)
    data = load_dataset(save(tmp_path / "d.npz", images=images, labels=["cat", "dog"] * 40))
    assert data.labels == ("cat", "dog")
    assert (data.name, data.height, data.width, data.channels) == ("d", 6, 4, 3)
    assert load_dataset(
        save(tmp_path / "grey.npz", images=images[..., 0], labels=np.arange(80) % 3)
    ).labels == ("0", "1", "2")


def test_bad_npz_files_are_said(tmp_path: Path) -> None:
    images = np.zeros((4, 2, 2), np.uint8)
    labels = np.arange(4)
    bad = {
        "has no images": {"labels": labels},
        "expected uint8": {"images": images.astype(np.float32), "labels": labels},
        r"expected uint8\[": {"images": images[0], "labels": labels[:2]},
        "labels of shape": {"images": images, "labels": labels[:3]},
        "too small": {"images": images, "labels": labels},
        "can be read|cannot be loaded": {"images": images, "labels": np.array([None] * 4)},
    }
    for said, arrays in bad.items():
        with pytest.raises(DataError, match=said):
            load_dataset(save(tmp_path / "d.npz", **arrays))
    (tmp_path / "d.npz").write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"not a \.npz file"):
        load_dataset(str(tmp_path / "d.npz"))


def test_one_label_or_no_images_are_too_few(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, size=(80, 2, 2), dtype=np.uint8)
    with pytest.raises(DataError, match="a classifier needs 2"):
        load_dataset(save(tmp_path / "d.npz", images=images, labels=np.zeros(80)))
    with pytest.raises(DataError, match="no image falls into the train split"):
        load_dataset(save(tmp_path / "d.npz", images=images[:0], labels=np.zeros(0)))


def picture_folder(top: Path, mode: str = "RGB") -> Path:
    random = np.random.default_rng(0)
    for i in range(60):
        label = top / ("dark" if i % 2 else "light")
        label.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 100, size=(9, 7, 3), dtype=np.uint8) + 100 * (i % 2 == 0)
        Image.fromarray(pixels.astype(np.uint8)).convert(mode).save(label / f"{i}.png")
    return top


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_a_folder_of_images_is_a_dataset(tmp_path: Path, mode: str) -> None:
    data = load_dataset(str(picture_folder(tmp_path / "pictures", mode)))
    assert data.labels == ("dark", "light")
    assert (data.height, data.width, data.channels) == (9, 7, 3)
    small = load_dataset(str(tmp_path / "pictures"), (4, 5), 1)
    assert (small.height, small.width, small.channels) == (4, 5, 1)


def test_bad_image_folders_are_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no dataset"):
        load_dataset(str(tmp_path / "absent"))
    with pytest.raises(DataError, match="holds no LABEL/IMAGE"):
        load_dataset(str(tmp_path))
    folder = picture_folder(tmp_path / "pictures")
    (folder / "dark" / "a.png").write_bytes(b"no picture")
    (folder / "light" / "b.png").write_bytes(b"")
    with pytest.raises(DataError) as raised:
        load_dataset(str(folder))
    assert "a.png" in str(raised.value)
    assert "b.png" in str(raised.value)
