from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgetfm.errors import DataError
from edgetfm.quantize import read_calibration
from edgetfm.samples import pictures, texts


def test_without_data_the_shipped_texts_are_taken_and_named() -> None:
    data = read_calibration(None, "text")
    assert list(data.items) == texts()
    assert data.count == len(texts()) > 200
    assert f"{data.count} English texts that ship" in data.note


def test_the_shipped_texts_are_many_kinds_and_half_of_them_are_paragraphs() -> None:
    words = [len(text.split()) for text in texts()]
    assert len(set(texts())) == len(words)
    assert 90 <= sum(count >= 50 for count in words) <= 130
    assert sum(count <= 20 for count in words) >= 90


def test_without_data_the_generated_pictures_are_taken() -> None:
    data = read_calibration(None, "image")
    assert data.name == "generated pictures"
    again = read_calibration(None, "image")
    assert data.fingerprint == again.fingerprint


def test_generated_pictures_are_smooth_like_photographs_not_noise() -> None:
    made = pictures(10)
    assert len({picture.shape for picture in made}) > 1
    for picture in made:
        assert picture.dtype == np.uint8
        assert picture.std() > 5
        steps = np.abs(np.diff(picture.astype(int), axis=1)).mean()
        noise = np.random.default_rng(0).permutation(picture.reshape(-1, 3)).reshape(picture.shape)
        assert steps < 0.7 * np.abs(np.diff(noise.astype(int), axis=1)).mean()


def test_a_text_file_has_a_text_a_line(tmp_path: Path) -> None:
    file = tmp_path / "own.txt"
    file.write_text("one\n\n  two  \nthree\none\n", encoding="utf-8-sig")
    data = read_calibration(file, "text")
    assert list(data.items) == ["one", "two", "three"]
    assert data.name == "own.txt"
    assert data.note == ""


@pytest.mark.parametrize("header", ["id,Review,stars", "id,anything,stars"])
def test_the_column_with_texts_is_found_by_name_or_because_it_is_the_only_one(
    tmp_path: Path, header: str
) -> None:
    file = tmp_path / "own.csv"
    file.write_text(f'{header}\n1,"good, really",5\n2,bad,1\n', encoding="utf-8")
    assert list(read_calibration(file, "text").items) == ["good, really", "bad"]


def test_a_column_can_be_named(tmp_path: Path) -> None:
    file = tmp_path / "own.csv"
    file.write_text("text,title\nlong,short\n", encoding="utf-8")
    assert list(read_calibration(Path(f"{file}::title"), "text").items) == ["short"]


def test_json_lines_are_read(tmp_path: Path) -> None:
    file = tmp_path / "own.jsonl"
    rows = [{"sentence": "one", "n": 1}, {"sentence": "two", "n": 2}]
    file.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    assert list(read_calibration(file, "text").items) == ["one", "two"]


def test_more_items_than_the_limit_are_thinned_all_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "sorted.txt"
    file.write_text("".join(f"text {i}\n" for i in range(1000)), encoding="utf-8")
    data = read_calibration(file, "text", limit=100)
    places = [int(str(text).split()[1]) for text in data.items]
    assert data.count == 100
    assert places == sorted(places)
    assert sum(place >= 500 for place in places) > 30


def test_the_fingerprint_is_of_the_items(tmp_path: Path) -> None:
    one, other, third = (tmp_path / name for name in ("a.txt", "b.csv", "c.txt"))
    one.write_text("x\ny\n", encoding="utf-8")
    other.write_text("text\nx\ny\n", encoding="utf-8")
    third.write_text("xy\n", encoding="utf-8")
    prints = [read_calibration(f, "text").fingerprint for f in (one, other, third)]
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.txt", b"\n \n", "holds no text"),
        ("empty.csv", b"", "is empty"),
        ("header.csv", b"text\n", "holds no text"),
        ("two.csv", b"a,b\nx,y\n", "has the columns a, b: name the one"),
        ("ragged.csv", b"n,text\n1,x\n2\n", "row 3: it has 1 columns"),
        ("bad.jsonl", b'{"text": "x"}\n{"text": \n', "row 2: not JSON"),
        ("other.jsonl", b'{"text": "x"}\n{"body": "y"}\n', "row 2: no text in 'text'; it has body"),
        ("list.jsonl", b"[1]\n", "row 1: list, expected an object"),
        ("latin.txt", b"caf\xe9\n", "is not UTF-8"),
        ("data.xlsx", b"x", "is not one of .txt, .csv, .jsonl"),
    ],
)
def test_unusable_data_is_said_with_its_place(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said.replace("(", r"\(")):
        read_calibration(tmp_path / name, "text")


def test_missing_files_and_columns_are_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no calibration data at"):
        read_calibration(tmp_path / "none.txt", "text")
    (tmp_path / "a.csv").write_text("text\nx\n", encoding="utf-8")
    with pytest.raises(DataError, match="has no column 'title'; it has text"):
        read_calibration(Path(f"{tmp_path / 'a.csv'}::title"), "text")
    with pytest.raises(DataError, match="is a folder"):
        read_calibration(tmp_path, "text")
    with pytest.raises(DataError, match="holds no pictures"):
        read_calibration(tmp_path, "image")


def test_a_folder_of_pictures_is_read_with_its_subfolders(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    for name in ("b.png", "cats/a.JPG", "notes.txt"):
        (tmp_path / name).write_bytes(name.encode())
    data = read_calibration(tmp_path, "image")
    assert [p.name for p in map(Path, map(str, data.items))] == ["b.png", "a.JPG"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("long.csv", "text\n" + "x" * ((1 << 24) + 1) + "\n", "row 2: field larger than"),
        ("header.csv", "x" * ((1 << 24) + 1) + "\n", "row 1: field larger than"),
        ("half.jsonl", '{"text": "\\ud800 a"}\n', "row 1: half a surrogate pair"),
    ],
)
def test_rows_that_no_text_can_be_are_named(
    name: str, content: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=said):
        read_calibration(tmp_path / name, "text")
