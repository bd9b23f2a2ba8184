"""Heads of sentence-transformers folders are in the graph, and answer by its arithmetic."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from edgetfm.errors import SourceError
from edgetfm.runtime.model import load
from edgetfm.sources import open_source
from edgetfm.workflow.export import export_model

MODES = ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens",
         "lasttoken")  # fmt: skip
MODULE = "sentence_transformers.models."


def add_head(folder: Path, modules: list[tuple[str, dict[str, Any]]], place: str = "") -> None:
    """modules.json and the folders it names; a Dense gets random weights."""
    listed = [{"idx": 0, "name": "0", "path": place, "type": f"{MODULE}Transformer"}]
    for i, (kind, config) in enumerate(modules, start=1):
        own = folder / f"{i}_{kind}"
        own.mkdir(parents=True, exist_ok=True)
        listed.append({"idx": i, "name": str(i), "path": own.name, "type": f"{MODULE}{kind}"})
        if kind != "Normalize":
            (own / "config.json").write_text(json.dumps(config))
        if kind == "Dense":
            torch.manual_seed(i)
            weights = {"linear.weight": torch.randn(config["out_features"], config["in_features"])}
            if config["bias"]:
                weights["linear.bias"] = torch.randn(config["out_features"])
            save_file(weights, own / "model.safetensors")
    (folder / "modules.json").write_text(json.dumps(listed))


def pooling(*modes: str) -> tuple[str, dict[str, Any]]:
    config = {f"pooling_mode_{m}": m in modes for m in MODES}
    return "Pooling", {"word_embedding_dimension": 32, **config}


def dense(inputs: int, outputs: int, activation: str = "Tanh", bias: bool = True) -> Any:
    name = f"torch.nn.modules.activation.{activation}"
    return "Dense", {"in_features": inputs, "out_features": outputs, "bias": bias,
                     "activation_function": name}  # fmt: skip


def pooled(hidden: torch.Tensor, mask: torch.Tensor, mode: str) -> torch.Tensor:
    """A row of hidden states as sentence-transformers pools it, one row at a time."""
    rows = []
    for states, own in zip(hidden, mask, strict=True):
        kept = states[own.bool()]
        weights = torch.arange(1, len(kept) + 1, dtype=torch.float32)[:, None]
        rows.append({
            "cls_token": kept[0],
            "max_tokens": kept.max(0).values,
            "mean_tokens": kept.mean(0),
            "mean_sqrt_len_tokens": kept.sum(0) / len(kept) ** 0.5,
            "weightedmean_tokens": (kept * weights).sum(0) / weights.sum(),
            "lasttoken": kept[-1],
        }[mode])  # fmt: skip
    return torch.stack(rows)


@pytest.fixture(scope="module")
def body(tiny_hf: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_hf("bert", "feature-extraction", tmp_path_factory.mktemp("body") / "bert")


@pytest.fixture
def folder(body: Path, tmp_path: Path) -> Path:
    made = tmp_path / "sentence"
    made.mkdir()
    for file in body.iterdir():
        (made / file.name).symlink_to(file)
    return made


FEEDS = {
    "input_ids": np.array([[2, 9, 11, 30, 3], [2, 17, 3, 0, 0]], np.int64),
    "attention_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int64),
    "token_type_ids": np.zeros((2, 5), np.int64),
}


def hidden_of(body: Path) -> torch.Tensor:
    import transformers

    model = transformers.AutoModel.from_pretrained(body).eval()
    with torch.no_grad():
        tensors = {name: torch.from_numpy(a) for name, a in FEEDS.items()}
        return model(**tensors).last_hidden_state


@pytest.mark.parametrize("route", ["native", "adapter"])
@pytest.mark.parametrize(
    "modes", [(m,) for m in MODES] + [("max_tokens", "mean_tokens"), ("cls_token", "lasttoken")]
)
def test_every_pooling_is_that_of_sentence_transformers(
    body: Path, folder: Path, modes: tuple[str, ...], route: str
) -> None:
    add_head(folder, [pooling(*modes)])
    opened = open_source(folder, route=route)
    hidden = hidden_of(body)
    mask = torch.from_numpy(FEEDS["attention_mask"])
    wanted = torch.cat([pooled(hidden, mask, mode) for mode in modes], dim=1).numpy()
    tensors = {name: torch.from_numpy(a) for name, a in FEEDS.items()}
    ours = opened.module()(**tensors)["sentence_embedding"].detach().numpy()
    assert np.abs(ours - wanted).max() < 2e-5
    assert np.abs(opened.reference()(FEEDS)["sentence_embedding"] - wanted).max() < 2e-5
    assert opened.signature.outputs[-1].shape == ("batch", 32 * len(modes))


def with_dense(body: Path) -> np.ndarray:
    """What a head of two dense layers makes of the text, in plain PyTorch."""
    with torch.no_grad():
        mask = torch.from_numpy(FEEDS["attention_mask"])
        vector = pooled(hidden_of(body), mask, "mean_tokens")
        torch.manual_seed(2)
        weight, bias = torch.randn(12, 32), torch.randn(12)
        vector = torch.tanh(F.linear(vector, weight, bias))
        torch.manual_seed(3)
        return F.normalize(F.linear(vector, torch.randn(8, 12)), dim=1).numpy()


TWO_DENSE = [pooling("mean_tokens"), dense(32, 12), dense(12, 8, "Identity", bias=False),
             ("Normalize", {})]  # fmt: skip


@pytest.mark.parametrize("route", ["native", "adapter"])
def test_dense_layers_follow_the_pooling(body: Path, folder: Path, route: str) -> None:
    add_head(folder, TWO_DENSE)
    opened = open_source(folder, route=route)
    tensors = {name: torch.from_numpy(a) for name, a in FEEDS.items()}
    ours = opened.module()(**tensors)["sentence_embedding"].detach().numpy()
    assert ours.shape == (2, 8)
    assert np.abs(ours - with_dense(body)).max() < 1e-5
    assert np.abs(opened.reference()(FEEDS)["sentence_embedding"] - ours).max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("route", ["native", "adapter"])
def test_dense_layers_are_in_the_graph_and_proven(
    body: Path, folder: Path, tmp_path: Path, route: str
) -> None:
    add_head(folder, TWO_DENSE)
    result = export_model(folder, tmp_path / "bundle", route=route)
    assert result.ledger.passed
    got = load(tmp_path / "bundle").run(FEEDS)["sentence_embedding"]
    assert np.abs(got - with_dense(body)).max() < 1e-5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of a library that is read alone, without its extras
def test_answers_are_those_of_sentence_transformers_itself(
    minilm_folder: Path, tmp_path: Path
) -> None:
    """The package is an oracle here only: edgetfm does not need it."""
    package = pytest.importorskip("sentence_transformers")
    folder = tmp_path / "minilm"
    shutil.copytree(minilm_folder, folder)
    head = [pooling("mean_tokens", "lasttoken", "weightedmean_tokens"), dense(1152, 64)]
    add_head(folder, [*head, ("Normalize", {})])
    texts = ["The mill stands still.", "A boat, sold in spring, came back to the village in May."]
    wanted = package.SentenceTransformer(str(folder), device="cpu").encode(texts)
    opened = open_source(folder)
    from edgetfm.runtime.preprocess import Preprocessor

    for name, data in opened.assets.items():
        (tmp_path / name).write_bytes(data)
    prepared = Preprocessor.from_folder(tmp_path, opened.preprocessing, opened.signature)
    tensors = {name: torch.from_numpy(a) for name, a in prepared.texts(texts).items()}
    ours = opened.module()(**tensors)["sentence_embedding"].detach().numpy()
    assert ours.shape == wanted.shape == (2, 64)
    assert np.abs(ours - wanted).max() < 1e-5


def test_the_transformer_may_stand_in_a_folder_of_its_own(body: Path, tmp_path: Path) -> None:
    folder = tmp_path / "older"
    folder.mkdir()
    shutil.copytree(body, folder / "0_Transformer")
    add_head(folder, [pooling("mean_tokens"), ("Normalize", {})], place="0_Transformer")
    opened = open_source(folder)
    vector = opened.reference()(FEEDS)["sentence_embedding"]
    mask = torch.from_numpy(FEEDS["attention_mask"])
    wanted = F.normalize(pooled(hidden_of(body), mask, "mean_tokens"), dim=1).numpy()
    assert np.abs(vector - wanted).max() < 1e-5
    assert "tokenizer.json" in opened.assets


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([("CLIPModel", {})], r"CLIPModel.*export the folder of the CLIP model itself"),
        ([("Asym", {})], r"Asym.*go different ways"),
        ([pooling("mean_tokens"), ("LSTM", {})], "modules Transformer, Pooling, LSTM"),
        ([pooling("mean_tokens"), pooling("mean_tokens")], "one Pooling"),
        ([pooling()], "pools by nothing; edgetfm honours cls_token, max_tokens"),
        ([pooling("mean_tokens"), dense(31, 8)], "takes 31 numbers, what comes before it gives 32"),
        ([pooling("mean_tokens"), dense(32, 8, "Mish")], "activation Mish; edgetfm honours Ident"),
        ([pooling("mean_tokens"), dense(0, 8, bias=False)], "in_features and out_features"),
    ],
)
def test_other_heads_are_refused_with_their_reason(
    folder: Path, modules: list[tuple[str, dict[str, Any]]], message: str
) -> None:
    add_head(folder, modules)
    with pytest.raises(SourceError, match=message):
        open_source(folder)


def test_dense_weights_that_are_pickled_or_of_another_shape_are_refused(folder: Path) -> None:
    add_head(folder, [pooling("mean_tokens"), dense(32, 8)])
    save_file({"linear.weight": torch.zeros(8, 31)}, folder / "2_Dense" / "model.safetensors")
    with pytest.raises(SourceError, match=r"weight \[8, 31\].*weight \[8, 32\]"):
        open_source(folder).module()
    (folder / "2_Dense" / "model.safetensors").unlink()
    (folder / "2_Dense" / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(SourceError, match="only pickled weights"):
        open_source(folder)
