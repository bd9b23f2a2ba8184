"""Optimum and Transformers.js open bundles of two graphs, and write what edgetfm does."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetfm import export_model, pipeline
from edgetfm.bundle import open_bundle
from edgetfm.runtime.encoder_decoder import EncoderDecoder, continue_greedily, open_graph
from edgetfm.signature import TARGET
from tests.conftest import CORPUS
from tests.encoder_decoders import make_tiny_writer
from tests.interop.programs import HERE, available, run

ASKED = [("t5", "fp32"), ("t5", "int8"), ("bart", "fp32"), ("bart", "int8")]
TOKENS = 12
SOURCES = CORPUS[:3]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """written(kind, precision): a bundle that holds this precision alone."""
    folder = tmp_path_factory.mktemp("writers")
    words = re.findall(r"\w+|[^\w\s]+", " ".join(CORPUS))

    def get(kind: str, precision: str) -> Path:
        source, place = folder / kind, folder / f"{kind}-{precision}"
        if not source.is_dir():
            # Optimum knows one number of heads, and heads that share the width among them.
            sizes = {"decoder_attention_heads": 4} if kind == "bart" else {"d_kv": 8}
            make_tiny_writer(kind, source, words, **sizes)
        if not place.is_dir():
            wanted = None if precision == "fp32" else precision
            wide = None if wanted is None else "perplexity:0.3"
            export_model(source, place, quantize=wanted, max_drop=wide, samples=8)
        return place

    return get


@pytest.fixture(scope="module")
def theirs(
    written: Callable[[str, str], Path],
    python_of: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[tuple[str, str], dict[str, Any]]:
    """What Optimum's generate writes, all of them in one process."""
    folder = tmp_path_factory.mktemp("optimum")
    greedy = {"max_new_tokens": TOKENS, "do_sample": False, "num_beams": 1}
    jobs = [
        {
            "class": "ORTModelForSeq2SeqLM",
            "bundle": str(written(*asked)),
            "options": {},
            "answers": str(folder / f"{i}.npz"),
            "texts": SOURCES,
            "generate": greedy,
        }
        for i, asked in enumerate(ASKED)
    ]
    run([python_of("optimum"), HERE / "in_optimum.py"], given=jobs)
    return {asked: dict(np.load(folder / f"{i}.npz")) for i, asked in enumerate(ASKED)}


@pytest.mark.parametrize("asked", ASKED, ids="-".join)
def test_optimum_writes_the_same_tokens(
    asked: tuple[str, str],
    theirs: dict[tuple[str, str], dict[str, Any]],
    written: Callable[[str, str], Path],
) -> None:
    found, bundle = theirs[asked], open_bundle(written(*asked))
    said = bundle.manifest.generation
    model = open_graph(bundle.graph(), threads=1)
    assert isinstance(model, EncoderDecoder)
    sources = {n: found[f"inputs.{n}"] for n in ("input_ids", "attention_mask")}
    start = [said["decoder_start"]]
    if said.get("forced_bos") is not None:
        start.append(said["forced_bos"])
    ours = continue_greedily(
        model, sources, start=start, ends=said["eos"], pad=said["pad"], most=TOKENS + 1
    )[TARGET]
    tokens = found["outputs.tokens"]
    shared = min(tokens.shape[1], ours.shape[1])
    assert shared > len(start)
    # The last token that may be written is forced to be an end where a config says so.
    np.testing.assert_array_equal(tokens[:, : shared - 1], ours[:, : shared - 1])


def test_transformers_js_writes_the_same_texts(
    written: Callable[[str, str], Path], node_folder: Path
) -> None:
    node = available(lambda: Path(shutil.which("node") or missing()))
    jobs = [
        {
            "pipeline": "text2text-generation",
            "bundle": str(written(*asked)),
            "inputs": [[text] for text in SOURCES],
            "options": {"max_new_tokens": TOKENS, "do_sample": False, "num_beams": 1},
        }
        for asked in ASKED
    ]
    printed = run([node, HERE / "in_node.mjs"], given=jobs, folder=node_folder)
    for asked, replies in zip(ASKED, json.loads(printed), strict=True):
        ask = pipeline(written(*asked), threads=1)
        for text, reply in zip(SOURCES, replies, strict=True):
            ours = ask(text, max_new_tokens=TOKENS, num_beams=1)
            assert words_of(reply) == words_of(ours), (asked, text)


def words_of(answer: Any) -> list[str]:
    (one,) = answer
    (text,) = one.values()
    return str(text).split()


def missing() -> str:
    raise FileNotFoundError("node is not installed")
