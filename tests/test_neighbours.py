"""What Optimum and Transformers.js read in a bundle says which variant ships, and how."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgetfm.bundle import BundleWriter, open_bundle
from edgetfm.manifest import SUFFIXES, Manifest, Variant
from edgetfm.neighbours import DTYPES, adapted
from edgetfm.signature import Signature

Tiny = Callable[..., Any]


def read_as(**files: Any) -> Callable[[str], bytes | None]:
    """A folder of JSON files, by name without the ending."""
    return lambda name: (
        json.dumps(files[name.removesuffix(".json")]).encode()
        if name.removesuffix(".json") in files
        else None
    )


@pytest.fixture(scope="module")
def text(tiny_bundle: Tiny) -> Manifest:
    found: Manifest = open_bundle(tiny_bundle("bert", "text-classification").bundle).manifest
    return found


def shipping(manifest: Manifest, precision: str, data: str | None = None) -> Manifest:
    component = manifest.components["model"]
    variant = Variant(f"onnx/model{SUFFIXES[precision]}.onnx", data)
    model = replace(component, variants={precision: variant})
    return replace(manifest, default=precision, components={"model": model})


def changed(manifest: Manifest, **files: Any) -> dict[str, Any]:
    made = adapted(read_as(**files), manifest)
    return {name.removesuffix(".json"): json.loads(data) for name, data in made.items()}


@pytest.mark.parametrize("precision", DTYPES)
def test_the_config_names_the_variant_that_ships(precision: str, text: Manifest) -> None:
    old = {"model_type": "bert", "transformers.js_config": {"dtype": "q8", "device": "webgpu"}}
    for data, external in ((None, False), ("onnx/model.onnx_data", True)):
        made = changed(shipping(text, precision, data), config=old)["config"]
        assert made["model_type"] == "bert"
        named = {"dtype": DTYPES[precision], "use_external_data_format": external}
        assert made["transformers.js_config"] == named


def test_a_variant_that_transformers_js_cannot_open_is_not_promised(text: Manifest) -> None:
    old = {"model_type": "bert", "transformers.js_config": {"dtype": "q8"}}
    assert changed(shipping(text, "a16w8"), config=old)["config"] == {"model_type": "bert"}
    assert set(SUFFIXES) - set(DTYPES) == {"a16w8"}


def test_a_file_that_already_says_so_is_left_alone(text: Manifest) -> None:
    files: dict[str, Any] = {"config": {"model_type": "bert"}, "tokenizer": {}}
    once = changed(text, **files)
    assert set(once) == {"config", "tokenizer_config"}
    assert changed(text, **{**files, **once}) == {}


@pytest.mark.parametrize("content", ["{}", "[1]", "{", '{"a": 1}'])
def test_a_config_that_is_not_hugging_faces_is_left_alone(content: str, text: Manifest) -> None:
    def read(name: str) -> bytes | None:
        return content.encode() if name == "config.json" else None

    assert adapted(read, text) == {}


def test_a_tokenizer_gets_a_class_that_transformers_4_has(text: Manifest) -> None:
    length = text.preprocessing["tokenizer"]["max_length"]
    old = {"tokenizer_class": "TokenizersBackend", "model_max_length": 10**30, "mask_token": "[M]"}
    made = changed(text, tokenizer={}, tokenizer_config=old)["tokenizer_config"]
    assert made == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": length,
        "mask_token": "[M]",
    }
    known = {"tokenizer_class": "BertTokenizer", "model_max_length": 512}
    made = changed(text, tokenizer={}, tokenizer_config=known)["tokenizer_config"]
    assert made == known | {"model_max_length": length}


@pytest.mark.parametrize("generic", ["TokenizersBackend", "PreTrainedTokenizerFast"])
def test_the_tokenizer_of_a_model_of_pairs_is_told_apart(generic: str, text: Manifest) -> None:
    normalizer = {
        "type": "BertNormalizer",
        "lowercase": False,
        "strip_accents": None,
        "handle_chinese_chars": True,
    }
    tokenizer = {"model": {"type": "WordPiece"}, "normalizer": normalizer}
    old = {"tokenizer_class": generic}
    made = changed(text, tokenizer=tokenizer, tokenizer_config=old)["tokenizer_config"]
    assert (made["tokenizer_class"], made["do_lower_case"]) == ("BertTokenizer", False)
    model = text.components["model"]
    alone = Signature(
        tuple(t for t in model.signature.inputs if t.name != "token_type_ids"),
        model.signature.outputs,
    )
    one = replace(text, components={"model": replace(model, signature=alone)})
    for manifest, unigram in ((one, tokenizer), (text, {"model": {"type": "Unigram"}})):
        made = changed(manifest, tokenizer=unigram, tokenizer_config=old)["tokenizer_config"]
        assert made["tokenizer_class"] == "PreTrainedTokenizerFast"
        assert "do_lower_case" not in made


def test_a_tokenizer_without_a_config_gets_one(text: Manifest) -> None:
    added = [{"content": t} for t in ("<s>", "</s>", "<mask>", "<extra>")]
    made = changed(text, tokenizer={"added_tokens": added})["tokenizer_config"]
    assert made["tokenizer_class"] == "PreTrainedTokenizerFast"
    roles = {k: v for k, v in made.items() if k.endswith("_token")}
    assert roles == {
        "cls_token": "<s>",
        "sep_token": "</s>",
        "mask_token": "<mask>",
        "pad_token": text.preprocessing["tokenizer"]["pad_token"],
    }


def test_pictures_without_a_processor_get_the_one_that_was_assumed(text: Manifest) -> None:
    image = {
        "size": [16, 24],
        "resample": "bilinear",
        "resize": {"mode": "exact", "size": [16, 24]},
        "rescale": 1 / 255,
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
    }
    manifest = replace(text, preprocessing={"image": image})
    made = changed(manifest)["preprocessor_config"]
    assert made["size"] == {"height": 16, "width": 24}
    assert (made["resample"], made["image_std"]) == (2, [0.25] * 3)
    assert changed(manifest, preprocessor_config={"size": 8}) == {}


def test_a_written_bundle_holds_what_neighbours_need(tiny_bundle: Tiny, tmp_path: Path) -> None:
    old = open_bundle(tiny_bundle("bert", "text-classification").bundle)
    config = json.loads(old.path("config.json").read_text("utf-8"))
    assert config["transformers.js_config"]["dtype"] == "fp32"
    with BundleWriter(tmp_path / "copy") as writer:
        for name in old.manifest.files:
            writer.copy(old.path(name), name)
        again = writer.commit(old.manifest)
    assert again.manifest.files == old.manifest.files
    assert (
        open_bundle(again.root).path("config.json").read_bytes()
        == old.path("config.json").read_bytes()
    )


@pytest.mark.parametrize("model_type", ["bert", "roberta"])
def test_transformers_5_makes_the_bundles_own_ids(
    model_type: str, tiny_bundle: Tiny, texts: list[str]
) -> None:
    from transformers import AutoTokenizer

    from edgetfm import pipeline

    bundle = tiny_bundle(model_type, "text-classification").bundle
    short = [text[:20] for text in texts]
    theirs = AutoTokenizer.from_pretrained(bundle)(
        short, short[::-1], padding=True, return_tensors="np"
    )
    pairs = list(zip(short, short[::-1], strict=True))
    for name, ours in pipeline(bundle).preprocessor.texts(pairs).items():
        assert theirs[name].tolist() == ours.tolist(), name
