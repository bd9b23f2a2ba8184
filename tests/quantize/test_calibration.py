from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

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
        ("ragged.csv", b"n,text\n1,x\n2\n", "row 3: no text in .text.; it has n"),
        ("bad.jsonl", b'{"text": "x"}\n{"text": \n', "row 2: not JSON"),
        ("other.jsonl", b'{"text": "x"}\n{"body": "y"}\n', "row 2: no text in 'text'; it has body"),
        ("list.jsonl", b"[1]\n", "row 1: list, expected an object"),
        ("latin.txt", b"caf\xe9\n", "is not UTF-8"),
        ("data.xlsx", b"x", "is not one of .txt, .csv, .jsonl, .parquet"),
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
    with pytest.raises(DataError, match=r"is a folder without .txt files"):
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


def write_parquet(path: Path, columns: dict[str, list[Any]], rows_a_group: int = 1000) -> Path:
    parquet.write_table(pyarrow.table(columns), path, row_group_size=rows_a_group)
    return path


def test_a_parquet_file_gives_what_the_same_csv_gives(tmp_path: Path) -> None:
    rows = [f"text number {i}" for i in range(2500)]
    file = write_parquet(tmp_path / "a.parquet", {"n": list(range(2500)), "review": rows})
    (tmp_path / "a.csv").write_text(
        "n,review\n" + "".join(f"{i},{t}\n" for i, t in enumerate(rows))
    )
    one, other = (read_calibration(tmp_path / name, "text", 100) for name in ("a.parquet", "a.csv"))
    assert one.fingerprint == other.fingerprint
    assert one.items == other.items
    assert read_calibration(Path(f"{file}::review"), "text", 100).items == one.items


def test_parquet_without_text_is_said_with_its_row(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "a.parquet", {"text": ["a", None, "b"], "n": [1, 2, 3]})
    assert read_calibration(file, "text").items == ["a", "b"]
    with pytest.raises(DataError, match=r"row 1: no text in 'n'"):
        read_calibration(Path(f"{file}::n"), "text")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(DataError, match=r"b.parquet is not a .parquet file that can be read"):
        read_calibration(tmp_path / "b.parquet", "text")


def test_columns_that_are_neither_text_nor_number_are_never_decoded(tmp_path: Path) -> None:
    far = pyarrow.array([2**62, 1], pyarrow.timestamp("us"))  # a year past Python's last
    file = write_parquet(tmp_path / "a.parquet", {"text": ["a", "b"], "day": far})
    assert read_calibration(file, "text").items == ["a", "b"]
    with pytest.raises(DataError, match=r"row 1: no text in 'day'; it has text, day"):
        read_calibration(Path(f"{file}::day"), "text")
    file = write_parquet(tmp_path / "b.parquet", {"day": far})
    with pytest.raises(DataError, match=r"no column of texts or numbers; it has day \(timestamp"):
        read_calibration(file, "text")
    twice = pyarrow.table([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["text", "text"])
    parquet.write_table(twice, tmp_path / "c.parquet")
    with pytest.raises(DataError, match="two columns called text"):
        read_calibration(tmp_path / "c.parquet", "text")


@pytest.mark.parametrize("rows", [20_000, 40_000_000])
def test_a_small_parquet_file_that_holds_gigabytes_is_refused(tmp_path: Path, rows: int) -> None:
    text = pyarrow.array(["x" * 50_000 if rows < 1 << 20 else "x"])
    column = pyarrow.DictionaryArray.from_arrays(np.zeros(rows, np.int32), text)
    file = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": column}), file, compression="zstd")
    assert file.stat().st_size < 200_000
    with pytest.raises(DataError, match="decoded it is far larger than the file"):
        read_calibration(file, "text", 10)


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl", ".parquet"])
def test_memory_holds_the_chosen_texts_and_not_the_file(tmp_path: Path, suffix: str) -> None:
    rows = [f"{i} " + "a text of two hundred letters, more or less, " * 4 for i in range(50_000)]
    file = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        write_parquet(file, {"text": rows}, rows_a_group=50_000)
    elif suffix == ".jsonl":
        file.write_text("".join(f'{{"text": "{row}"}}\n' for row in rows))
    else:
        file.write_text("text\n" * (suffix == ".csv") + "".join(f'"{row}"\n' for row in rows))
    del rows
    read_calibration(file, "text", 10)  # what is imported on the way stays
    usual = pyarrow.default_memory_pool()
    arrow = pyarrow.proxy_memory_pool(usual)  # tracemalloc does not see what Arrow holds
    pyarrow.set_memory_pool(arrow)
    tracemalloc.start()
    data = read_calibration(file, "text", 100)
    peak = tracemalloc.get_traced_memory()[1] + arrow.max_memory()
    tracemalloc.stop()
    pyarrow.set_memory_pool(usual)
    assert data.count == 100
    assert peak < 4.5e6  # all rows are 9 MB and more


def test_a_folder_of_text_files_has_a_text_a_file(tmp_path: Path) -> None:
    (tmp_path / "pos").mkdir()
    for name in ("b.txt", "pos/a.txt", "c.md"):
        (tmp_path / name).write_text(f"{name}\nand a second line\n", encoding="utf-8")
    data = read_calibration(tmp_path, "text")
    assert data.items == ["b.txt\nand a second line", "pos/a.txt\nand a second line"]
    (tmp_path / "z.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"z.txt is not UTF-8"):
        read_calibration(tmp_path, "text")


def test_a_folder_of_recordings_is_read_as_paths(tmp_path: Path) -> None:
    for i in range(20):
        (tmp_path / f"{i:02}.{('wav', 'FLAC', 'ogg')[i % 3]}").write_bytes(bytes([i]))
    (tmp_path / "notes.txt").write_text("no sound")
    data = read_calibration(tmp_path, "audio")
    assert data.count == 20
    assert all(isinstance(item, Path) for item in data.items)
    few = read_calibration(tmp_path, "audio", 5)
    assert few.items == [item for item in data.items if item in few.items]
    before = few.fingerprint
    assert isinstance(few.items[0], Path)
    few.items[0].write_bytes(b"another sound")
    assert read_calibration(tmp_path, "audio", 5).fingerprint != before


def test_the_sounds_that_ship_come_with_their_rate_and_a_note() -> None:
    data = read_calibration(None, "audio")
    assert data.count >= 40
    assert all(rate == 16_000 and sound.ndim == 1 for sound, rate in data.items)
    assert "generated sounds" in data.note
    assert data.fingerprint == read_calibration(None, "audio").fingerprint


def test_which_items_are_chosen_depends_on_them_alone(tmp_path: Path) -> None:
    rows = [f"text {i}" for i in range(500)]
    (tmp_path / "a.txt").write_text("\n".join(rows))
    (tmp_path / "b.txt").write_text("\n".join(rows[::-1]))
    one, other = (read_calibration(tmp_path / n, "text", 50).items for n in ("a.txt", "b.txt"))
    assert list(one) == list(other)[::-1]
    with pytest.raises(DataError, match="0 samples were asked for"):
        read_calibration(tmp_path / "a.txt", "text", 0)


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl"])
def test_a_line_that_is_a_file_of_its_own_is_refused(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    file.write_text(("text\n" * (suffix == ".csv")) + "a" * ((1 << 24) + 2))
    with pytest.raises(DataError, match=f"row {1 + (suffix == '.csv')}: .*(longer|larger) than"):
        read_calibration(file, "text")


def test_a_file_whose_name_is_no_text_gets_one_that_can_be_written(tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"caf\xe9.txt")
    file.write_text("a text\n")
    assert read_calibration(file, "text").name == "caf?.txt"
