"""Hugging Face folders: what is read, what is refused, and that nothing of garbage gets through."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from edgetfm.errors import InputError, SourceError
from edgetfm.sources import open_source

TinyHF = Callable[..., Path]


@pytest.fixture(scope="module")
def pristine(tiny_hf: TinyHF, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_hf("bert", "text-classification", tmp_path_factory.mktemp("hf") / "model")


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "model"))


def edit(folder: Path, name: str = "config.json", **values: Any) -> None:
    path = folder / name
    data = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({k: v for k, v in (data | values).items() if v is not None}))


def weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def refused(folder: Path | str, *words: str, task: str | None = None) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(folder, task=task)
    assert caught.value.exit_code == 2
    for word in words:
        assert word in str(caught.value)


# --- what is read -------------------------------------------------------------------------------


def test_a_folder_says_what_it_is(folder: Path) -> None:
    source = open_source(folder)
    assert (source.kind, source.family.name, source.route) == ("huggingface", "bert", "native")
    assert (source.task, source.labels) == ("text-classification", ("bad", "fair", "good"))
    assert source.preprocessing["tokenizer"] == {
        "max_length": 64,
        "pad_token_id": 0,
        "pad_token": "[PAD]",
    }
    assert set(source.assets) >= {"config.json", "tokenizer.json", "tokenizer_config.json"}
    assert len(source.provenance["sha256"]["model.safetensors"]) == 64


def test_a_local_folder_needs_no_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", forbidden)
    monkeypatch.setattr(socket.socket, "connect", forbidden)
    source = open_source(folder)
    source.reference()
    source.module()


def test_module_and_reference_are_built_anew_and_agree(folder: Path) -> None:
    source = open_source(folder)
    module = source.module()
    assert module is not source.module()
    assert not module.training
    assert all(p.dtype == torch.float32 for p in module.parameters())
    ids = np.array([[7, 8, 9]])
    feeds = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}
    ours = module(**{k: torch.from_numpy(v) for k, v in feeds.items()})["logits"]
    assert np.abs(ours.numpy() - source.reference()(feeds)["logits"]).max() < 1e-5


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("BertModel", "feature-extraction"),
        ("BertForMaskedLM", "fill-mask"),
        ("BertForSequenceClassification", "text-classification"),
        ("BertForTokenClassification", "token-classification"),
        ("BertForQuestionAnswering", "question-answering"),
    ],
)
def test_the_task_is_read_from_the_architecture(
    architecture: str, task: str, tiny_hf: TinyHF, tmp_path: Path
) -> None:
    source = open_source(tiny_hf("bert", task, tmp_path))
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [architecture]
    assert source.task == task


def test_another_task_leaves_the_head_out_and_says_so(folder: Path) -> None:
    source = open_source(folder, task="sentence-similarity")
    assert source.task == "feature-extraction"
    assert "classifier" in source.notes[0]
    assert "classifier" not in dict(source.module().named_children())


def test_half_precision_weights_are_read_as_float32(folder: Path) -> None:
    weights(folder, lambda w: w.update({k: v.half() for k, v in w.items()}))
    module = open_source(folder).module()
    assert {p.dtype for p in module.parameters()} == {torch.float32}


def test_sharded_weights_are_read(folder: Path) -> None:
    whole = {k: v.clone() for k, v in open_source(folder).module().state_dict().items()}
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    (folder / "model.safetensors").unlink()
    for part, some in enumerate((names[::2], names[1::2])):
        save_file({n: tensors[n] for n in some}, folder / f"part{part}.safetensors")
    index = {n: f"part{i % 2}.safetensors" for i, n in enumerate(names)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    state = open_source(folder).module().state_dict()
    assert all(torch.equal(state[k], whole[k]) for k in whole)
    (folder / "part1.safetensors").unlink()
    refused(folder, "part1.safetensors")
    index[names[0]] = "../part0.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    refused(folder, "leaves its folder")


def test_an_old_checkpoint_with_gamma_and_beta_is_read(masked_lm_folder: Path) -> None:
    source = open_source(masked_lm_folder)
    assert source.task == "fill-mask"
    assert source.config.layers == 2


def test_an_older_tokenizer_is_converted(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"])
    )
    edit(folder, "tokenizer_config.json", tokenizer_class="BertTokenizer")
    tokenizer = json.loads(open_source(folder).assets["tokenizer.json"])
    assert tokenizer["model"]["vocab"]["a"] == 5


def test_a_folder_without_a_tokenizer_takes_ids_only(folder: Path) -> None:
    for path in folder.glob("*token*"):
        path.unlink()
    source = open_source(folder)
    assert source.preprocessing == {}
    assert "token ids only" in " ".join(source.notes)


@pytest.mark.parametrize(
    ("modes", "normalized", "pooling"),
    [
        ({"pooling_mode_mean_tokens": True}, True, ("mean", True)),
        (
            {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
            False,
            ("cls", False),
        ),
        ({"pooling_mode": "max"}, False, ("max", False)),
    ],
)
def test_sentence_transformers_decides_the_pooling(
    modes: dict[str, Any], normalized: bool, pooling: tuple[str, bool], folder: Path
) -> None:
    stages = ["models.Transformer", "models.Pooling"] + ["models.Normalize"] * normalized
    modules = [
        {"path": f"{i}_x" if i else "", "type": f"sentence_transformers.{s}"}
        for i, s in enumerate(stages)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_x").mkdir()
    edit(folder, "1_x/config.json", **modes)
    edit(folder, "sentence_bert_config.json", max_seq_length=48)
    source = open_source(folder)
    assert source.task == "feature-extraction"
    assert (source.config.pooling, source.config.normalize) == pooling
    assert source.preprocessing["tokenizer"]["max_length"] == 48
    edit(folder, "1_x/config.json", pooling_mode_weightedmean_tokens=True, pooling_mode="learned")
    refused(folder, "learned", "mean_tokens")
    (folder / "modules.json").write_text(json.dumps([*modules, {"type": "models.LSTM"}]))
    refused(folder, "LSTM")


def test_a_licence_comes_from_the_model_card(minilm_folder: Path) -> None:
    assert open_source(minilm_folder).licence == "apache-2.0"


def test_pictures_are_prepared_as_the_processor_says(tiny_hf: TinyHF, tmp_path: Path) -> None:
    entry = open_source(tiny_hf("deit", "image-classification", tmp_path)).preprocessing["image"]
    assert entry["size"] == [40, 40]
    assert entry["crop"] == [32, 32]
    assert entry["resize"] == {"mode": "exact", "size": [40, 40]}
    assert entry["resample"] == "bicubic"
    assert (entry["channels"], len(entry["mean"])) == (3, 3)
    edit(tmp_path, "preprocessor_config.json", crop_size={"height": 24, "width": 24})
    refused(tmp_path, "[24, 24]", "[32, 32]")
    edit(
        tmp_path,
        "preprocessor_config.json",
        do_center_crop=False,
        size={"shortest_edge": 32},
        image_mean=[0.5],
    )
    refused(tmp_path, "image_mean")
    (tmp_path / "preprocessor_config.json").unlink()
    assert "from -1 to 1" in " ".join(open_source(tmp_path).notes)


# --- what is refused ----------------------------------------------------------------------------


def test_what_is_not_a_model_is_refused(folder: Path, tmp_path: Path) -> None:
    refused(tmp_path / "absent", "does not exist")
    refused(folder / "config.json", "is a file")
    refused(tmp_path, "config.json")
    refused("nobody/no-such-model", "could not be fetched", "network")


def test_a_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    refused(folder, "no weights")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04N.")
    refused(folder, "pickle", "pytorch_model.bin", "convert")


def test_unknown_types_heads_and_tasks_are_refused_with_the_known_ones(folder: Path) -> None:
    edit(folder, architectures=["BertForMultipleChoice"])
    refused(folder, "BertForMultipleChoice", "--task", "fill-mask")
    edit(folder, model_type="mamba")
    refused(folder, "mamba", "a decoder", "edgetfm takes encoders")
    with pytest.raises(
        SourceError, match=r"no family of edgetfm has; they have bart, bert, .*mpnet"
    ):
        open_source(folder, route="native")
    edit(folder, model_type="of-another-world")
    refused(folder, "of-another-world")
    edit(folder, model_type="bert")
    refused(folder, "image-classification", task="image-classification")
    with pytest.raises(InputError, match="unknown task"):
        open_source(folder, task="telepathy")


def test_config_values_that_cannot_be_honoured_are_refused(folder: Path) -> None:
    edit(folder, position_embedding_type="relative_key", is_decoder=True)
    refused(folder, "position_embedding_type", "is_decoder")


def test_weights_that_do_not_fit_are_listed_at_once(folder: Path) -> None:
    def spoil(w: dict[str, torch.Tensor]) -> None:
        w.pop("bert.embeddings.LayerNorm.bias")
        w["bert.embeddings.LayerNorm.weight"] = torch.ones(31)
        w["bert.strange"] = torch.ones(1)
        w["classifier.bias"] = torch.ones(3, dtype=torch.int32)

    weights(folder, spoil)
    refused(
        folder,
        "missing: embeddings.norm.bias",
        "embeddings.norm.weight has shape [31], the config says [32]",
        "without a place: strange",
        "classifier.out.bias is int32",
    )


def test_a_head_the_checkpoint_lacks_is_missing(folder: Path) -> None:
    refused(folder, "missing: decoder.dense.weight", task="fill-mask")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(value: float, folder: Path) -> None:
    weights(folder, lambda w: w["classifier.weight"].__setitem__((1, 2), value))
    refused(folder, "classifier.weight", "NaN")


# --- garbage ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_truncated_or_spoiled_weights_never_pass(
    data: st.DataObject, pristine: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = Path(shutil.copytree(pristine, tmp_path_factory.mktemp("fuzz") / "m"))
    whole = (folder / "model.safetensors").read_bytes()
    header = int.from_bytes(whole[:8], "little")
    if data.draw(st.booleans(), label="cut"):
        spoiled = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        at = data.draw(st.integers(0, header // 4))
        spoiled = whole[:at] + data.draw(st.binary(min_size=4, max_size=9)) + whole[at + 9 :]
    (folder / "model.safetensors").write_bytes(spoiled)
    with pytest.raises(SourceError):
        open_source(folder)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_a_garbage_config_is_used_or_refused_but_never_crashes(
    data: st.DataObject, pristine: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = Path(shutil.copytree(pristine, tmp_path_factory.mktemp("fuzz") / "m"))
    name = data.draw(
        st.sampled_from(
            ["config.json", "tokenizer_config.json", "tokenizer.json", "special_tokens_map.json"]
        )
    )
    path = folder / name
    if data.draw(st.booleans(), label="one value") and path.is_file():
        values = json.loads(path.read_text())
        key = data.draw(st.sampled_from(sorted(values)))
        path.write_text(json.dumps(values | {key: data.draw(JSON)}))
    else:
        path.write_bytes(
            data.draw(st.binary(max_size=40) | JSON.map(lambda x: json.dumps(x).encode()))
        )
    with contextlib.suppress(SourceError):
        source = open_source(folder)
        assert source.task == "text-classification" or name == "config.json"


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("hidden_size", 10**9, "width is 1000000000, expected at most 10000000"),
        ("intermediate_size", 10**30, "expected at most"),
        ("num_hidden_layers", 10**9, "layers is 1000000000, expected at most 1000"),
        ("type_vocab_size", 10**30, "expected at most"),
        ("hidden_dropout_prob", 2, "dropout is 2.0, expected at most 1"),
        ("num_labels", 10**9, "num_labels is 1000000000"),
    ],
)
def test_absurd_sizes_are_refused_before_anything_is_built(
    key: str, value: float, word: str, folder: Path
) -> None:
    edit(folder, **{key: value})
    refused(folder, word)


QUERY = "bert.encoder.layer.0.attention.self.query.weight"


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.zeros(3, 3), ("layers.0.attention.q.weight [3, 3]", "layers.0.attention.qkv")),
        (torch.tensor(1.0), ("layers.0.attention.q.weight []",)),
        (torch.zeros(32, 32, dtype=torch.int8), ("q.weight is int8, expected one of float32",)),
        (torch.zeros(32, 32, dtype=torch.bool), ("q.weight is bool",)),
    ],
)
def test_a_part_of_a_packed_weight_that_does_not_fit_is_named(
    tensor: torch.Tensor, words: tuple[str, ...], folder: Path
) -> None:
    weights(folder, lambda w: w.update({QUERY: tensor}))
    refused(folder, *words)


def test_a_tokenizer_with_more_tokens_than_embeddings_is_refused(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    tokenizer["model"]["vocab"]["surplus"] = size
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    refused(folder, "1 tokens without an embedding", "'surplus'", f"embeds {size}")
