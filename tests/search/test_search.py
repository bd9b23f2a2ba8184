"""The search on a real model made hard: outliers that int8 alone cannot hold."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edgetfm import export_model, quantize_bundle
from edgetfm.bundle import open_bundle
from edgetfm.errors import BudgetError
from edgetfm.graphs import read_graph, save_graph
from edgetfm.proof import Subject, answers_of
from edgetfm.quantize import RECIPES, quantize_graph
from edgetfm.quantize.switchboard import Switchboard
from edgetfm.runtime.preprocess import Preprocessor
from edgetfm.search.evidence import gather
from edgetfm.search.goal import Goal
from edgetfm.search.search import MARGIN
from edgetfm.signature import Feeds

CHANNELS, SHIFT = 10, 240.0
LAYERS = 2


def with_outliers(source: Path, target: Path) -> Path:
    """The same function with ten channels of every hidden state shifted by 240.

    The bias of each norm carries the shift, the layers that read it and the residual take it away:
    in float nothing changes. In int8 the ten channels take the precision of all others. (Scaled
    channels would not do: they take over the residual and with it the embedding, which int8 then
    keeps.)
    """
    shutil.copytree(source, target)
    weights = {
        name: array.copy() for name, array in load_file(source / "model.safetensors").items()
    }
    rng = np.random.default_rng(0)
    channels = rng.choice(384, CHANNELS, replace=False)
    shift = SHIFT * rng.choice([-1, 1], CHANNELS)
    prefix = next(k for k in weights if k.endswith("layer.0.output.dense.weight"))
    prefix = prefix.removesuffix("layer.0.output.dense.weight")

    def take_away(layer: str) -> None:
        weights[f"{layer}.bias"] -= weights[f"{layer}.weight"][:, channels] @ shift

    for i in range(LAYERS):
        layer, following = f"{prefix}layer.{i}", f"{prefix}layer.{i + 1}"
        weights[f"{layer}.attention.output.LayerNorm.bias"][channels] += shift
        take_away(f"{layer}.intermediate.dense")
        weights[f"{layer}.output.dense.bias"][channels] -= shift
        if i < LAYERS - 1:
            weights[f"{layer}.output.LayerNorm.bias"][channels] += shift
            for part in ("query", "key", "value"):
                take_away(f"{following}.attention.self.{part}")
            weights[f"{following}.attention.output.dense.bias"][channels] -= shift
    single = {name: array.astype(np.float32) for name, array in weights.items()}
    save_file(single, target / "model.safetensors", metadata={"format": "pt"})
    return target


@pytest.fixture(scope="module")
def hard(short_minilm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers of MiniLM with outliers, as a bundle in fp32."""
    folder = tmp_path_factory.mktemp("hard")
    source = with_outliers(short_minilm_folder, folder / "source")
    return export_model(source, folder / "bundle").path


def mean_cosine(bundle_path: Path, folder: Path, **changes: Any) -> float:
    """Of the embeddings of a graph made by the int8 recipe with these changes."""
    bundle = open_bundle(bundle_path)
    subject = Subject.of_bundle(bundle.manifest)
    preprocessor = Preprocessor.from_folder(
        bundle.root, bundle.manifest.preprocessing, subject.signature
    )
    evidence = gather(preprocessor, subject.signature, subject.task, Goal("int8"), None)
    fp32 = bundle.path("onnx/model.onnx")
    recipe = replace(RECIPES["int8"], **changes)
    graph, _ = quantize_graph(read_graph(fp32), recipe, evidence.calibration)
    save_graph(graph, folder / "model.onnx")
    answers = answers_of(folder / "model.onnx", evidence.judged)
    compared = subject.compare(answers, answers_of(fp32, evidence.judged), evidence.judged)
    return compared.measures()["sentence_embedding"].cosine


@pytest.mark.slow
def test_the_search_brings_a_hard_model_inside_and_names_what_it_left(
    hard: Path, tmp_path: Path
) -> None:
    assert mean_cosine(hard, tmp_path, smoothing=(), rounding="nearest") < 0.9
    made = quantize_bundle(hard, tmp_path / "out", quantize="auto")
    assert made.variant == "int8"
    rows = {t["name"]: t for t in made.tried}
    assert not rows["int8"]["inside"]
    (shipped,) = [t for t in made.tried if t["recipe"] == _recipe(made.path)]
    measures = shipped["measures"]["sentence_embedding"]
    assert measures["cosine"] >= 0.995
    assert measures["worst_cosine"] >= 0.99
    left = [*shipped["recipe"]["keep_float"], *shipped["recipe"]["by_block"]]
    assert 0 < len(left) < 4 * LAYERS
    # The query, key and value products read the shifted states at once.
    assert any("attention.qkv" in name for name in left)
    assert all(any(name in note for note in made.notes) for name in left)
    assert {"search", "sensitivity"} <= shipped["facts"].keys()
    assert shipped["use"] <= MARGIN
    again = quantize_bundle(hard, tmp_path / "again", recipe=made.path).path
    for name in ("edgetfm.json", "onnx/model_int8.onnx", "vectors.npz"):
        assert (again / name).read_bytes() == (made.path / name).read_bytes(), name


def _recipe(path: Path) -> dict[str, Any]:
    return open_bundle(path).manifest.components["model"].variants["int8"].recipe


@pytest.mark.slow
def test_a_search_that_is_stopped_goes_on_from_what_it_measured(
    tiny_hf: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the midst of its measurements; the second run asks for the rest alone."""
    bundle = export_model(tiny_hf("bert", "fill-mask", tmp_path / "source"), tmp_path / "fp32").path
    asked: list[frozenset[str]] = []
    stop = 5
    honest = Switchboard.run

    def counted(board: Switchboard, feeds: Feeds, kept: frozenset[str]) -> Feeds:
        if kept not in asked:
            asked.append(kept)
            if len(asked) > stop:
                raise KeyboardInterrupt
        return honest(board, feeds, kept)

    monkeypatch.setattr(Switchboard, "run", counted)
    hopeless = {"quantize": "auto", "max_drop": "max_abs:1e-9"}
    with pytest.raises(KeyboardInterrupt):
        quantize_bundle(bundle, tmp_path / "out", **hopeless)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".out.search.json", "fp32", "source"]
    first, stop = asked[:stop], 1000
    asked.clear()
    with pytest.raises(BudgetError, match="went on with 5 earlier results"):
        quantize_bundle(bundle, tmp_path / "out", **hopeless)
    assert asked
    assert not set(first) & set(asked)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fp32", "source"]
