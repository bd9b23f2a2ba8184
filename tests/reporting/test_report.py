"""The report page and the model card say what happened, and nothing in them comes alive."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from edgetfm.ledger import Ledger, Rung
from edgetfm.manifest import Component, Manifest, Variant
from edgetfm.parity import Measures
from edgetfm.reporting.report import ledger_rows, model_card, report_page
from edgetfm.reporting.words import cell, share, size
from edgetfm.signature import Signature, TensorSpec

NASTY = "<script>alert(1)</script>"
MISS = "sentence_embedding: worst_cosine 0.98 < 0.99"


def measures(cosine: float) -> Measures:
    return Measures(40, 0.1, 0.01, 0.1, cosine, cosine)


def manifest() -> Manifest:
    signature = Signature(
        (TensorSpec("input_ids", "int64", ("batch", "sequence")),),
        (TensorSpec("sentence_embedding", "float32", ("batch", 384)),),
    )
    return Manifest(
        task="feature-extraction",
        family="bert",
        route="native",
        default="int8",
        components={"model": Component(signature, {"int8": Variant("onnx/model_int8.onnx")})},
        source={"kind": "huggingface", "name": f"someone/{NASTY}|x"},
        session={"disabled_optimizers": ["SkipLayerNormFusion"]},
        versions={"torch": "2.13.0"},
        labels=(NASTY,),
        licence="apache-2.0",
    )


def ledger(*missed: str) -> Ledger:
    rungs = [
        Rung("fp32 graph", "PyTorch", {"sentence_embedding": measures(1.0)}, "max_error:1"),
        Rung(
            "int8",
            "PyTorch",
            {"sentence_embedding": measures(0.98)},
            "worst_cosine:0.99",
            missed=missed,
            note=f"first node that diverges: {NASTY}" if missed else "",
        ),
    ]
    return Ledger(rungs, {"cpu": "one of a kind"})


TRIED: list[dict[str, Any]] = [
    {"precision": "fp32", "bytes": 90_400_000, "latency": 1.0, "inside": True},
    {
        "precision": "int8",
        "bytes": 22_900_000,
        "latency": 0.41,
        "spread": 0.03,
        "measures": {"sentence_embedding": measures(0.98).to_json()},
        "missed": [NASTY],
        "facts": {
            "matrix_products_in_int8": 36,
            "nodes": [{"node": "layers.0.qkv", "shape": [384, 1152]}],
            "left_in_float": [
                {"node": NASTY, "reason": "both inputs are activations"},
                {"node": "layers.1.scores", "reason": "both inputs are activations"},
            ],
        },
        "inside": False,
    },
]


class Page(HTMLParser):
    """The tags, the attributes and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_a_page_stands_alone_and_runs_nothing() -> None:
    html = report_page(manifest(), ledger(MISS), TRIED, [NASTY])
    page = Page(html)
    assert {"script", "img", "link", "iframe"}.isdisjoint(page.tags)
    assert not [a for a, _ in page.attributes if a in ("src", "href") or a.startswith("on")]
    assert not re.search(r"url\(|@import|https?:", html)
    assert page.text.count(NASTY) >= 5  # shown as it was written: name, label, note, miss, fact


def test_a_page_tells_the_whole_story() -> None:
    text = Page(report_page(manifest(), ledger(), TRIED)).text
    for words in (
        "Every bound holds",
        "fp32 graph",
        "22.9 MB",
        "90.4 MB",
        "0.41x",
        "matrix products in int8 36",
        "384 × 1152",
        "layers.1.scores both inputs are activations",
        "SkipLayerNormFusion",
        "2.13.0",
        "one of a kind",
        "apache-2.0",
        "worst_cosine:0.99",
    ):
        assert words in text


def test_a_page_says_first_that_a_bound_is_missed() -> None:
    text = Page(report_page(manifest(), ledger(MISS), TRIED)).text
    assert "Every bound holds" not in text
    assert text.index("Bounds are missed") < text.index(MISS) < text.index("Parity")
    assert "1 of 2 bounds hold" in text
    assert "FAIL" in text


def test_a_page_reads_in_the_dark_and_on_a_phone() -> None:
    html = report_page(manifest(), ledger(), TRIED)
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html
    table_labels = re.findall(r"<td(?! data-label)", html)
    assert table_labels == []  # a phone shows each cell with its own label


def test_a_card_has_metadata_and_no_live_markup() -> None:
    card = model_card(manifest(), ledger(), TRIED)
    head, body = card.removeprefix("---\n").split("\n---\n", 1)
    assert 'license: "apache-2.0"' in head
    assert "pipeline_tag: feature-extraction" in head
    assert "<script" not in body.replace("\\<", "")
    assert "| int8 (default) | onnx/model\\_int8.onnx | 22.9 MB |" in body
    assert "from edgetfm import pipeline" in body


def test_a_card_owns_up_to_a_missed_bound() -> None:
    card = model_card(manifest(), ledger(MISS), TRIED)
    assert "Bounds are missed" in card
    assert "every bound holds" not in card


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1.0000"), (0.99999999, "0.9999999"), (0.99499, "0.9949"), (-0.2, "-0.2000")],
)
def test_a_share_never_looks_better_than_it_is(value: float, text: str) -> None:
    assert share(value) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (22_900_000, "22.9 MB"),
        (123_456, "123 kB"),
        (3.2e9, "3.20 GB"),
    ],
)
def test_sizes_are_in_decimal_units(count: float, text: str) -> None:
    assert size(count) == text


def test_cells_are_words() -> None:
    assert cell("bytes", 1500) == "1.5 kB"
    assert cell("nodes", 1500) == "1,500"
    assert cell("", True) == "yes"
    assert cell("", None) == "–"
    assert cell("", {"a_b": [1, 0.5]}) == "a b: 1, 0.5"


# --- what a variant's facts say -----------------------------------------------------------------

TOLD: dict[str, Any] = {
    "name": "int8, 2 nodes in float",
    "precision": "int8",
    "bytes": 25_000_000,
    "latency": 0.44,
    "measures": {"sentence_embedding": measures(0.998).to_json()},
    "recipe": {"name": "int8", "keep_float": ("layers.0.down", "layers.1.down")},
    "note": f"the worst of {NASTY} left out",
    "use": 0.4,
    "facts": {
        "share_of_multiply_accumulates_in_int8": 0.947,
        "share_of_multiply_accumulates_in_blocks": 0.031,
        "bytes_in_blocks": 1_200_000,
        "nodes": [{"node": f"layers.{i}.qkv", "error": 0.01 * i} for i in range(12)],
        "left_in_float": [
            *(
                {"node": f"layers.{i}.scores", "reason": "both inputs are activations"}
                for i in (0, 1)
            ),
            {"node": "layers.0.down", "reason": "the recipe keeps it in float"},
        ],
        "embeddings": [{"table": "words", "shape": [100, 32], "error": 0.007}],
        "profile": {
            "runs": 12,
            "nodes": [{"node": f"{NASTY}/MatMul", "op": "MatMul", "share": 0.31}],
            "operators": [{"op": "MatMul", "nodes": 3, "share": 0.62}],
            "fusions": [
                {"name": "GELU", "expected": 6, "matched": 2, "became": {"BiasGelu": 2}},
                {"name": "weight-only products", "expected": 3, "matched": 0, "became": {}},
            ],
        },
        "saturation": {
            "items": 64,
            "target": "x86-avx2",
            "cured": [{"node": "layers.1.down", "pairs": 14, "of": 1000, "error": 0.12}],
        },
        "search": [{"step": "all in int8", "nodes_left_out": 0, "use": 1.31}],
        "sensitivity": {f"layers.{i}.down": 0.001 * i for i in range(12)},
    },
    "inside": True,
}


def told() -> str:
    component = manifest().components["model"]
    variant = Variant("onnx/model_int8.onnx", recipe=json.loads(json.dumps(TOLD["recipe"])))
    components = {"model": Component(component.signature, {"int8": variant})}
    return report_page(
        replace(manifest(), components=components), ledger(), [*TRIED, TOLD], [NASTY]
    )


def test_a_page_explains_what_ships_first() -> None:
    page = Page(told())
    for words in (
        "Multiply-accumulates: 94.7 % in int8, 3.1 % in blocks, 2.2 % in float",
        "2 nodes: both inputs are activations",
        "1 node: the recipe keeps it in float",
        "relative rms error of a node's output, on calibration data",
        "both weights and activations rounded",
        "relative rms error of the table's own entries",
        "GELU 2 of 6 2 BiasGelu",
        "weight-only products 0 of 3 as written",
        "MatMul 3 62.0%",
        f"{NASTY}/MatMul MatMul 31.0%",
        "Asked for: x86-avx2",
        "bytes in blocks 1.2 MB",
        "layers.1.down 14 1,000 0.12",
        "all in int8 0 1.31",
        "sensitivity (12)",
        f"the worst of {NASTY} left out",
    ):
        assert words in page.text, words
    told_at = page.text.index("What was quantized")
    first = page.text.index("int8, 2 nodes in float", told_at)
    assert first < page.text.index("matrix products in int8 36", told_at)
    assert "script" not in page.tags


def test_a_bar_shows_the_share() -> None:
    assert re.search(r'class="bar" role="img" aria-label="94.7 % in int8, ', told())
    assert "width: 94.70%" in told()
    assert 'class="second" style="width: 3.10%"' in told()


def test_long_lists_are_folded() -> None:
    html = told()
    folded = re.findall(r"<details>\s*<summary>(.*?)</summary>", html)
    shown = re.findall(r"<details open>\s*<summary>(.*?)</summary>", html)
    assert "Matrix products quantized (12)" in folded
    assert {"Fusions expected and matched", "What stayed in float (3)"} <= set(shown)
    left = [{"node": f"layers.{i}.scores", "reason": "one reason"} for i in range(12)]
    many = {**TRIED[1], "facts": {"left_in_float": left}}
    html = report_page(manifest(), ledger(), [TRIED[0], many])
    assert re.search(r"<details>\s*<summary>What stayed in float \(12\)<", html)
    assert "<li>12 nodes: one reason</li>" in html


def test_every_table_scrolls_in_its_own_box() -> None:
    html = told()
    boxed = re.findall(r'<div class="wide">\s*<table', html)
    assert len(boxed) == html.count("<table") > 5


def test_the_page_has_the_chart(monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page(told())
    assert page.tags.count("svg") == 1
    assert "Hollow dots are outside the budget" in page.text
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as where it is not installed
    without = Page(told())
    assert "svg" not in without.tags
    assert "pip install 'edgetfm[report]'" in without.text
    assert "0.41x" in without.text


def test_the_one_that_ships_is_known_by_its_recipe() -> None:
    html = told()
    (row,) = re.findall(r'<tr class="chosen">\s*<td[^>]*>([^<]*)<', html)
    assert row == "int8, 2 nodes in float"
    assert 'class="dot inside chosen"' in html
    assert "0.44x the time of fp32, here" in Page(html).text


def test_a_metric_is_a_row_of_the_ledger() -> None:
    metric = {"name": "accuracy", "value": 0.9, "reference": 0.92, "items": 50}
    missed = ("accuracy 0.9 loses 2.17% of fp32's 0.92",)
    bound = Ledger([Rung("int8 accuracy", "fp32", {}, "1%", "", missed, metric=metric)])
    (row,) = ledger_rows(bound)
    assert (row.output, row.metric, row.verdict) == ("accuracy", "0.9 of 0.92", "FAIL")
    assert "0.9 of 0.92" in Page(report_page(manifest(), bound, TRIED)).text
    assert "0.9 of 0.92" in model_card(manifest(), bound, TRIED)


def test_facts_that_nobody_foresaw_are_shown() -> None:
    new = {**TRIED[1], "facts": {"colour": "blue", "things": [{"thing": "a", "size": 3}]}}
    text = Page(report_page(manifest(), ledger(), [TRIED[0], new])).text
    assert "colour blue" in text
    assert "things (1) thing size a 3" in text
