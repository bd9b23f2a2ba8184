"""Arrays in a .npz file as calibration data, and token ids that are no text."""

from __future__ import annotations

import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgetfm.errors import DataError
from edgetfm.quantize import read_arrays
from edgetfm.quantize.arrays import join
from edgetfm.quantize.npz import Header, header_problems
from edgetfm.quantize.random_tokens import look_drawn, refuse_random_tokens
from edgetfm.runtime.preprocess import Preprocessor
from edgetfm.runtime.text import TextEncoder
from edgetfm.samples import texts
from edgetfm.signature import Array, Feeds, Signature, TensorSpec

IDS = TensorSpec("input_ids", "int64", ("batch", "sequence"))
MASK = TensorSpec("attention_mask", "int64", ("batch", "sequence"))
PIXELS = TensorSpec("pixel_values", "float32", ("batch", 3, 4, 4))
OUTPUT = TensorSpec("logits", "float32", ("batch", 2))
TEXT = Signature((IDS, MASK), (OUTPUT,))
IMAGE = Signature((PIXELS,), (OUTPUT,))


@pytest.fixture(scope="module")
def encoder(minilm_folder: Path) -> TextEncoder:
    signature = Signature((IDS, MASK), (OUTPUT,))
    made = Preprocessor.from_folder(minilm_folder, {"tokenizer": {"max_length": 64}}, signature)
    return made.text_encoder


def text_feeds(encoder: TextEncoder, count: int = 64) -> Feeds:
    return encoder(texts()[:count])


def rows(feeds: Feeds) -> list[Feeds]:
    return [{n: a[i : i + 1] for n, a in feeds.items()} for i in range(len(feeds["input_ids"]))]


def drawn_like(feeds: Feeds, high: int) -> Feeds:
    """Uniform ids in the places of the real ones; special tokens stay."""
    rng = np.random.default_rng(0)
    ids = feeds["input_ids"].copy()
    draw = rng.integers(0, high, ids.shape)
    inner = (feeds["attention_mask"] == 1) & ~np.isin(ids, (101, 102))
    return feeds | {"input_ids": np.where(inner, draw, ids)}


def save(path: Path, **arrays: Array) -> Path:
    np.savez_compressed(path, allow_pickle=True, **arrays)
    return path


def test_arrays_named_as_the_inputs_are_items_of_batch_1(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).standard_normal((30, 3, 4, 4))
    file = save(tmp_path / "a.npz", pixel_values=pixels, labels=np.arange(30))
    data = read_arrays(file, IMAGE)
    assert data.count == 30
    whole = join(data.items)["pixel_values"]  # type: ignore[arg-type]
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(whole, pixels.astype(np.float32))


@pytest.mark.parametrize("order", ["C", "F"])
def test_more_rows_than_the_limit_are_thinned_whatever_their_order(
    tmp_path: Path, order: str
) -> None:
    pixels = np.random.default_rng(0).standard_normal((300, 3, 4, 4)).astype(np.float32)
    file = save(tmp_path / "a.npz", pixel_values=np.asarray(pixels, order=order))  # type: ignore[call-overload]
    turned = save(tmp_path / "b.npz", pixel_values=pixels[::-1])
    one, other = read_arrays(file, IMAGE, 40), read_arrays(turned, IMAGE, 40)
    assert one.count == 40
    np.testing.assert_array_equal(
        join(one.items)["pixel_values"],  # type: ignore[arg-type]
        join(other.items)["pixel_values"][::-1],  # type: ignore[arg-type]
    )


def test_memory_holds_the_chosen_rows_and_not_the_array(tmp_path: Path) -> None:
    wide = Signature((TensorSpec("x", "float32", ("batch", 1000)),), (OUTPUT,))
    file = save(tmp_path / "a.npz", x=np.random.default_rng(0).random((8000, 1000), np.float32))
    tracemalloc.start()
    data = read_arrays(file, wide, 50)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert data.count == 50
    assert peak < 20e6 < 32e6  # the array is 32 MB


def test_everything_that_does_not_fit_is_said_at_once(tmp_path: Path) -> None:
    file = save(tmp_path / "a.npz", ids=np.zeros((4, 5), np.int64))
    with pytest.raises(DataError, match=r"(?s)no array 'input_ids'; it has ids.*'attention_mask'"):
        read_arrays(file, TEXT)
    uneven = save(tmp_path / "b.npz", input_ids=np.ones((4, 5)), attention_mask=np.ones((3, 5)))
    with pytest.raises(DataError, match="input_ids 4, attention_mask 3"):
        read_arrays(uneven, TEXT)
    floats = save(tmp_path / "c.npz", pixel_values=np.ones((4, 3, 4, 5), np.float32))
    with pytest.raises(DataError, match=r"does not fit the graph.*\n?.*expected pixel_values"):
        read_arrays(floats, IMAGE)
    objects = save(tmp_path / "d.npz", pixel_values=np.array([{}, {}], dtype=object))
    with pytest.raises(DataError, match="holds Python objects"):
        read_arrays(objects, IMAGE)
    broken = save(tmp_path / "e.npz", pixel_values=np.full((4, 3, 4, 4), np.nan, np.float32))
    with pytest.raises(DataError, match="NaN or Inf in pixel_values"):
        read_arrays(broken, IMAGE)
    empty = save(tmp_path / "f.npz", pixel_values=np.ones((0, 3, 4, 4), np.float32))
    with pytest.raises(DataError, match="holds no items"):
        read_arrays(empty, IMAGE)
    (tmp_path / "g.npz").write_bytes(b"PK but no archive")
    with pytest.raises(DataError, match=r"is not a .npz file that can be read"):
        read_arrays(tmp_path / "g.npz", IMAGE)


def test_a_damaged_archive_is_said(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).random((50, 3, 4, 4)).astype(np.float32)
    file = save(tmp_path / "a.npz", pixel_values=noise)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"is not a .npz file that can be read"):
        read_arrays(file, IMAGE)


def test_the_ids_of_text_are_taken(encoder: TextEncoder, tmp_path: Path) -> None:
    feeds = text_feeds(encoder)
    file = save(tmp_path / "a.npz", **feeds)
    for known in (encoder, None):
        assert read_arrays(file, TEXT, encoder=known).count == 64


def test_one_short_text_is_text_too(encoder: TextEncoder) -> None:
    for row in rows(text_feeds(encoder, 40)):
        refuse_random_tokens([row], "one.npz", encoder)
        refuse_random_tokens([row], "one.npz")


def test_unknown_words_are_text_too(encoder: TextEncoder) -> None:
    feeds = encoder(["a \U00013000\U00013001 b \U00013002 c", "\U00013000"] * 20)
    assert (feeds["input_ids"] == 100).any()  # [UNK]
    refuse_random_tokens(rows(feeds), "a.npz", encoder)


@pytest.mark.parametrize("high", [30522, 1000])
def test_random_tokens_are_refused_with_and_without_a_tokenizer(
    encoder: TextEncoder, tmp_path: Path, high: int
) -> None:
    file = save(tmp_path / "a.npz", **drawn_like(text_feeds(encoder), high))
    with pytest.raises(DataError, match=r"'input_ids' is not text: decoded and.*give texts"):
        read_arrays(file, TEXT, encoder=encoder)
    with pytest.raises(DataError, match=r"are different, as many as in a uniform draw from \d+"):
        read_arrays(file, TEXT)


def test_ids_outside_the_vocabulary_are_refused(encoder: TextEncoder) -> None:
    feeds = {"input_ids": np.array([[101, 5000, 40000, 102]])}
    with pytest.raises(DataError, match="the tokenizer has 30522 tokens, the ids reach from 40000"):
        refuse_random_tokens([feeds], "a.npz", encoder)


def test_no_sequence_of_text_looks_drawn(encoder: TextEncoder) -> None:
    ids = np.concatenate([np.array(e.ids[1:-1]) for e in encoder.encode(texts())])
    for start in range(0, len(ids) - 256, 64):
        assert look_drawn(ids[start : start + 256]) == ""


def test_letters_and_bytes_of_text_do_not_look_drawn() -> None:
    data = np.frombuffer(" ".join(texts()).encode(), np.uint8)
    for start in range(0, 20_000, 500):
        assert look_drawn(data[start : start + 500]) == ""


def test_uniform_draws_look_drawn_at_every_size() -> None:
    rng = np.random.default_rng(0)
    for high in (100, 1000, 30522, 128256):
        for count in (256, 4096, 65536):
            assert look_drawn(rng.integers(0, high, count)), (high, count)


def test_the_order_of_ids_and_inputs_without_ids_say_nothing() -> None:
    refuse_random_tokens([{"x": np.random.default_rng(0).random((1, 5000))}], "a.npz")
    assert look_drawn(np.arange(255)) == ""
    assert look_drawn(np.random.default_rng(0).integers(0, 4, 5000)) == ""  # an alphabet


# --- files that are damaged, or made to harm ----------------------------------------------------


def header(shape: str, descr: str = "'<f4'", order: bool = False) -> bytes:
    """A .npy header that says this, and no values."""
    return told(f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}")


def told(text: str, version: int = 1) -> bytes:
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(2, "little") + text.encode()


def archived(
    path: Path, content: bytes, kind: int = zipfile.ZIP_DEFLATED, end: str = ".npy"
) -> Path:
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr(f"pixel_values{end}", content)
    return path


def changed(path: Path, local: int, central: int, value: int) -> None:
    """One byte of each member's headers is another: its flags or its compression."""
    data = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        data[data.index(signature) + place] = value
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (header(f"({10**30}, 3, 4, 4)"), "is not whole"),
        (header(f"({10**18}, 3, 4, 4)"), "is not whole"),
        (header(f"({10**15}, 3, 4, 4)", order=True), "is not whole"),
        (header("(30000000, 0)"), r"has shape \(1, 0\), expected pixel_values"),
        (header("(-5, 3, 4, 4)"), "can be read"),
        (header("(4, 3, 4294967296, 4294967296)"), "expected pixel_values"),
        (header("(8,)", descr="'<U500000000'"), "expected float32"),
        (header("(8, 3)", descr="'|V0'"), "expected float32"),
        (header("(8, 3)", descr="[('a', '<i8')]"), "expected float32"),
        (header("(8, 3, 4, 4)", descr="'<c16'") + bytes(1000), "is complex128, expected float32"),
        (header("()") + bytes(4), "is a single number"),
        (told("(" * 9000), "can be read"),
        (told('{"a": (1,\n'), "can be read"),
        (told('{"""'), "can be read"),
        (told("{}", 9), "can be read"),
        (b"", "can be read"),
    ],
)
def test_what_a_header_promises_is_checked_before_rows_are_read(
    content: bytes, said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=said):
        read_arrays(archived(tmp_path / "a.npz", content), IMAGE)


def test_members_that_no_array_can_be_read_from_are_said(tmp_path: Path) -> None:
    content = header("(4, 3, 4, 4)") + np.random.default_rng(0).bytes(4 * 48 * 4)
    bare = archived(tmp_path / "a.npz", content, end="")
    with pytest.raises(DataError, match="no array 'pixel_values'; it has none"):
        read_arrays(bare, IMAGE)
    encrypted = archived(tmp_path / "b.npz", content)
    changed(encrypted, 6, 8, 1)
    unknown = archived(tmp_path / "c.npz", content)
    changed(unknown, 8, 10, 99)
    damaged = archived(tmp_path / "d.npz", content, zipfile.ZIP_LZMA)
    data = bytearray(damaged.read_bytes())
    data[70:100] = b"\xff" * 30
    damaged.write_bytes(bytes(data))
    for file in (encrypted, unknown, damaged):
        with pytest.raises(DataError, match=r"is not a .npz file that can be read"):
            read_arrays(file, IMAGE)


FREE = Signature((TensorSpec("pixel_values", "float32", ("batch", "width")),), (OUTPUT,))


def test_an_item_of_gigabytes_in_a_small_file_is_refused_unread(tmp_path: Path) -> None:
    file = archived(tmp_path / "a.npz", header(f"(1, {1 << 25})") + bytes(1 << 27))
    assert file.stat().st_size < 1 << 18
    tracemalloc.start()
    with pytest.raises(DataError, match="more than 16777216 values"):
        read_arrays(file, FREE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6


@pytest.mark.parametrize(
    ("shape", "fortran", "said"),
    [
        ((600, 1 << 24), False, "16.0 GiB, more than 4.0 GiB: ask for fewer samples"),
        ((600, 1 << 24), True, "in Fortran order and must be read whole, 37.5 GiB"),
        ((5, 0), False, "which holds nothing"),
        ((5, 3, 1), False, "expected pixel_values"),
    ],
)
def test_what_does_not_fit_in_memory_is_told_by_its_header(
    shape: tuple[int, ...], fortran: bool, said: str
) -> None:
    promised = Header(shape, np.dtype("float32"), fortran, stored=1 << 60)
    (problem,) = header_problems({"pixel_values": promised}, FREE, 256, None)
    assert said in problem


def test_no_item_is_far_longer_than_texts_are_cut_to(encoder: TextEncoder, tmp_path: Path) -> None:
    long = np.ones((4, 257), np.int64)
    file = save(tmp_path / "a.npz", input_ids=long, attention_mask=long)
    with pytest.raises(DataError, match="texts for this model are cut to 64 tokens"):
        read_arrays(file, TEXT, encoder=encoder)
    assert read_arrays(file, TEXT).count == 1
