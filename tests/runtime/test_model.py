"""A loaded bundle answers for arrays, given in any of the usual ways, and checks them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetfm import load
from edgetfm.errors import BundleError, DeviceError, InputError

FEEDS = {
    "input_ids": [[5, 6, 7], [8, 9, 0]],
    "attention_mask": [[1, 1, 1], [1, 1, 0]],
    "token_type_ids": [[0, 0, 0], [0, 0, 0]],
}


@pytest.fixture(scope="module")
def folder(tiny_bundle: Callable[..., Any]) -> Path:
    path: Path = tiny_bundle("bert", "text-classification").bundle
    return path


def test_a_dict_keywords_lists_and_arrays_give_the_same(folder: Path) -> None:
    model = load(folder, threads=1)
    wanted = model.run(FEEDS)["logits"]
    assert wanted.shape == (2, 3)
    arrays = {name: np.array(rows, dtype=np.int32) for name, rows in FEEDS.items()}
    ids = arrays.pop("input_ids")
    np.testing.assert_array_equal(model.run(arrays, input_ids=ids)["logits"], wanted)
    np.testing.assert_array_equal(model.run(**FEEDS)["logits"], wanted)


def test_inputs_are_checked_all_at_once(folder: Path) -> None:
    model = load(folder)
    with pytest.raises(InputError) as raised:
        model.run({"input_ids": [[5, 6]], "attention_mask": [[1, 1, 1]], "mask": [[1]]})
    for part in ("unknown input 'mask'", "missing input token_type_ids", "sequence=3"):
        assert part in str(raised.value)
    with pytest.raises(InputError, match="given twice: input_ids"):
        model.run(FEEDS, input_ids=[[1]])


def test_a_model_says_what_it_is(folder: Path) -> None:
    model = load(folder, precision="fp32", threads=1)
    assert model.precision == load(folder).precision == "fp32"
    assert model.signature.axes == ("batch", "sequence")
    assert model.providers == ("CPUExecutionProvider",)
    assert sum(model.placement.values()) > 20
    assert model.session.threads == 1
    assert model.session_options == {}


def test_what_cannot_be_loaded_says_why(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="does not exist"):
        load(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no variant 'int3'"):
        load(folder, precision="int3")
    with pytest.raises(DeviceError, match="unknown device"):
        load(folder, device="abacus")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s["inputs"].pop(), "input 'token_type_ids': the manifest says nothing"),
        (lambda s: s["outputs"].append(dict(s["outputs"][0], name="more")), "output 'more'"),
        (lambda s: s["outputs"][0].update(shape=["batch", 7]), r"says logits: float32\[batch, 7\]"),
        (lambda s: s["inputs"][0].update(dtype="int32"), "input 'input_ids': .* int32"),
    ],
)
def test_a_graph_of_another_signature_is_refused(
    change: Callable[[Any], Any], words: str, folder: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    data = json.loads((copy / "edgetfm.json").read_text())
    change(data["components"]["model"]["signature"])
    (copy / "edgetfm.json").write_text(json.dumps(data))
    with pytest.raises(BundleError, match=words):
        load(copy)
