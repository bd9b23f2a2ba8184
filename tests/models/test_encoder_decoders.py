"""Each encoder-decoder answers as eager transformers, whole and in two graphs, step by step."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch

from edgetfm.errors import SourceError
from edgetfm.export import to_onnx
from edgetfm.models import TABLE, family_named
from edgetfm.signature import PAST, PRESENT, Feeds, Signature
from edgetfm.sources import eager, open_source
from tests.encoder_decoders import (
    ENCODER_DECODERS,
    VOCABULARY,
    make_tiny_encoder_decoder,
    ragged_feeds,
)

LIMIT = 1e-5
"""Of the largest difference, as a share of the largest number."""
READ, WRITTEN = [150, 40, 9], [30, 7, 2]
"""Tokens of the rows on both sides: T5's distances go beyond the furthest bucket."""
GRAPH = "t5-gated"
"""It has every node that the others have. Those are held to PyTorch, step by step too, by their
exports (tests/workflow/test_two_graphs.py) and their texts (tests/runtime/generation)."""
FORMS = [*((kind, "module") for kind in ENCODER_DECODERS), (GRAPH, "graph")]


class Made:
    """One tiny encoder-decoder: transformers' model, our module and our two graphs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = open_source(folder)
        self.signature = self.source.signature
        self.reference = self.source.reference()
        self.module = self.source.module()
        self.whole = eager(self.module)
        self.stages = {
            stage.name: Signature(
                stage.inputs(self.source.config, self.source.task),
                stage.outputs(self.source.config, self.source.task),
            )
            for stage in self.source.family.stages
        }
        self._sessions: dict[str, ort.InferenceSession] = {}

    def part(self, name: str, how: str) -> Callable[[Feeds], Feeds]:
        """A stage as a function, in PyTorch or as a graph."""
        (stage,) = (s for s in self.source.family.stages if s.name == name)
        if how == "module":
            return eager(stage.part(self.module))
        signature = self.stages[name]
        if name not in self._sessions:
            graph = to_onnx(stage.part(self.module), signature.inputs, signature.outputs)
            options = ort.SessionOptions()
            options.intra_op_num_threads = 1
            proto = ir.serde.serialize_model(graph).SerializeToString()
            self._sessions[name] = ort.InferenceSession(proto, options)
        session = self._sessions[name]
        names = [t.name for t in signature.outputs]
        return lambda feeds: dict(zip(names, session.run(names, feeds), strict=True))

    def hidden(self, feeds: Feeds, how: str) -> Feeds:
        """What the decoder takes of the encoder."""
        taken = {n: a for n, a in feeds.items() if not n.startswith("decoder")}
        answer = self.part("encoder_model", how)(taken)
        given = {"encoder_hidden_states": answer["last_hidden_state"]}
        if "attention_mask" in feeds:
            given["encoder_attention_mask"] = feeds["attention_mask"]
        return given

    def nothing(self, batch: int) -> Feeds:
        """The past of a first step."""
        return {
            t.name: np.zeros((batch, int(t.shape[1]), 0, int(t.shape[3])), np.float32)
            for t in self.stages["decoder_model_merged"].inputs
            if t.name.startswith(PAST)
        }

    def written(self, feeds: Feeds, cuts: list[int], how: str) -> np.ndarray:
        """The logits of decoder_input_ids, in steps that end at these tokens."""
        step, given = self.part("decoder_model_merged", how), self.hidden(feeds, how)
        ids = feeds["decoder_input_ids"]
        past, logits, start = self.nothing(len(ids)), [], 0
        for end in cuts:
            branch = {"use_cache_branch": np.array([start > 0])}
            answer = step({**given, **past, **branch, "input_ids": ids[:, start:end]})
            logits.append(answer["logits"])
            for name, array in answer.items():  # what was read is handed on once
                if name.startswith(PRESENT) and (start == 0 or ".decoder." in name):
                    past[name.replace(PRESENT, PAST)] = array
            start = end
        return np.concatenate(logits, axis=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    @cache
    def get(kind: str) -> Made:
        folder = tmp_path_factory.mktemp(kind)
        return Made(make_tiny_encoder_decoder(kind, folder / "source"))

    return get


def distance(got: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("kind", ENCODER_DECODERS)
def test_ragged_texts_on_both_sides_have_transformers_logits(
    made: Callable[[str], Made], kind: str
) -> None:
    model = made(kind)
    feeds = ragged_feeds(model.signature, read=READ, written=WRITTEN)
    real = feeds["decoder_attention_mask"] > 0
    got, wanted = (run(feeds)["logits"][real] for run in (model.whole, model.reference))
    assert distance(got, wanted) < LIMIT
    spread = wanted.max(axis=0) - wanted.min(axis=0)
    assert spread.mean() > 0.3, "a model that says the same of everything proves nothing"


@pytest.mark.parametrize("kind", ENCODER_DECODERS)
def test_a_row_is_answered_as_it_is_alone(made: Callable[[str], Made], kind: str) -> None:
    model = made(kind)
    feeds = ragged_feeds(model.signature, read=READ, written=WRITTEN)
    together = model.whole(feeds)["logits"]
    for i, (read, written) in enumerate(zip(READ, WRITTEN, strict=True)):
        alone = {
            n: a[i : i + 1, : written if n.startswith("decoder") else read]
            if a.ndim == 2
            else a[i : i + 1]
            for n, a in feeds.items()
        }
        assert distance(model.whole(alone)["logits"][0], together[i, :written]) < LIMIT


@pytest.mark.parametrize(("kind", "how"), FORMS)
def test_steps_have_the_logits_of_the_whole(
    made: Callable[[str], Made], kind: str, how: str
) -> None:
    model = made(kind)
    feeds = ragged_feeds(model.signature, read=READ, written=WRITTEN)
    wanted = model.whole(feeds)["logits"]
    whole = max(WRITTEN)
    for cuts in ([whole], [1, *range(2, whole + 1)], [4, *range(5, whole + 1)]):
        assert distance(model.written(feeds, cuts, how), wanted) < LIMIT


@pytest.mark.parametrize(("kind", "how"), FORMS)
def test_later_steps_use_the_keys_that_were_kept_and_not_the_encoders_answer(
    made: Callable[[str], Made], kind: str, how: str
) -> None:
    model = made(kind)
    feeds = ragged_feeds(model.signature, read=[9, 5], written=[6, 6])
    step, given = model.part("decoder_model_merged", how), model.hidden(feeds, how)
    ids = feeds["decoder_input_ids"]
    first = step(
        {**given, **model.nothing(2), "use_cache_branch": np.array([False]), "input_ids": ids}
    )
    past = {n.replace(PRESENT, PAST): a for n, a in first.items() if n.startswith(PRESENT)}
    again = {**past, "use_cache_branch": np.array([True]), "input_ids": ids[:, :1]}
    wanted = step({**given, **again})
    hidden = np.zeros_like(given["encoder_hidden_states"])
    got = step({**given, **again, "encoder_hidden_states": hidden})
    np.testing.assert_array_equal(got["logits"], wanted["logits"])
    kept = [a for n, a in got.items() if ".encoder." in n]
    assert all(a.size < past[f"{PAST}0.encoder.key"].size for a in kept)


@pytest.mark.parametrize("kind", ENCODER_DECODERS)
def test_every_weight_is_trained(made: Callable[[str], Made], kind: str) -> None:
    source = made(kind).source
    module = source.family.build(source.config, source.task).train()
    feeds = ragged_feeds(source.signature, read=[9, 5], written=[6, 2])
    logits = module(**{n: torch.from_numpy(a) for n, a in feeds.items()})["logits"]
    logits.square().sum().backward()
    assert [n for n, p in module.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    ("kind", "task", "start"),
    [
        ("t5", "text2text-generation", 0),
        ("bart", "text2text-generation", 2),
        ("marian", "translation", 2),
        ("whisper", "automatic-speech-recognition", 2),
    ],
)
def test_a_folder_says_its_task_and_with_what_a_text_begins(
    made: Callable[[str], Made], kind: str, task: str, start: int
) -> None:
    source = made(kind).source
    assert (source.task, source.route) == (task, "native")
    said = source.generation
    assert (said["decoder_start"], said["layers"]) == (start, source.config.decoder_layers)
    assert said["forced_bos"] == (0 if kind == "bart" else None)
    assert "generation_config.json" in source.assets


def test_every_model_type_of_an_encoder_decoder_is_tested() -> None:
    listed = {t for n, row in TABLE.items() if family_named(n).stages for t in row.model_types}
    assert listed == {model_type for _, model_type, _ in ENCODER_DECODERS.values()}


@pytest.mark.parametrize(
    ("kind", "changed", "words"),
    [
        ("marian", {"share_encoder_decoder_embeddings": False}, "share_encoder_decoder_embeddings"),
        ("bart", {"decoder_attention_heads": 8}, "4 units; onnxruntime takes multiples of 8"),
        ("bart", {"activation_function": "mish"}, "activation_function is 'mish'"),
        ("t5", {"feed_forward_proj": "gated-mish"}, "feed_forward_proj: act is 'mish'"),
        ("t5", {"d_kv": 12}, "12 units"),
        ("t5", {"relative_attention_num_buckets": 2}, "2 buckets for distances up to 128"),
        ("t5", {"relative_attention_max_distance": 16}, "32 buckets for distances up to 16"),
        ("bart", {"decoder_layers": 5000}, "decoder_layers is 5000, expected at most 1000"),
        ("whisper", {"d_model": 33}, "d_model"),
    ],
)
def test_a_config_that_cannot_be_honoured_is_refused(
    made: Callable[[str], Made], kind: str, changed: dict[str, Any], words: str
) -> None:
    source = made(kind).source
    full = load_config(made(kind).folder)
    from_hf = source.family.from_hf
    assert from_hf is not None
    assert from_hf.config(full, source.task) == source.config
    with pytest.raises(SourceError, match=words):
        from_hf.config(full | changed, source.task)


def load_config(folder: Path) -> dict[str, Any]:
    import transformers

    config: dict[str, Any] = transformers.AutoConfig.from_pretrained(folder).to_dict()
    return config


def test_a_task_that_no_route_does_is_refused_with_those_there_are(
    made: Callable[[str], Made],
) -> None:
    with pytest.raises(SourceError, match="it has text2text-generation, translation") as caught:
        open_source(made("t5").folder, task="feature-extraction")
    assert "nor does the adapter take it" in str(caught.value)


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_a_weight_that_is_missing_is_named(
    made: Callable[[str], Made], kind: str, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    for file in made(kind).folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    lost = next(n for n in weights if "decoder" in n and "final" in n and "norm.weight" in n)
    del weights[lost]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(SourceError, match=r"missing: decoder\.\S*norm\.weight"):
        open_source(tmp_path)


@pytest.mark.parametrize("kind", ENCODER_DECODERS)
def test_a_config_comes_back_from_hugging_faces_form(
    made: Callable[[str], Made], kind: str
) -> None:
    import transformers

    source = made(kind).source
    family, config = source.family, source.config
    assert family.to_hf is not None
    assert family.from_hf is not None
    said = family.to_hf(config, source.task)
    full = transformers.AutoConfig.for_model(**said).to_dict()
    again = family.from_hf.config({**said, **full}, source.task)
    assert again == config
    assert hasattr(transformers, said["architectures"][0])


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        {"norm": "rms", "norm_place": "pre", "feed_forward": "swiglu", "attention": "sparse"},
        {"feed_forward": "moe", "experts": 3, "attention": "linear", "positions": "learned"},
    ],
    ids=lambda words: words["feed_forward"],
)
def test_a_transformer_of_chosen_parts_is_its_graphs(words: dict[str, Any]) -> None:
    family = family_named("transformer")
    config = family.config(
        vocabulary=VOCABULARY, width=32, layers=1, decoder_layers=1, heads=4, decoder_heads=4,
        inner=32, decoder_inner=24, window=8, **words,
    )  # fmt: skip
    torch.manual_seed(0)
    module = family.build(config, "translation").eval()
    for name, weight in module.named_parameters():
        torch.nn.init.normal_(weight, std=0.3, mean=float(name.endswith("norm.weight")))
    signature = Signature(family.inputs(config, ""), family.outputs(config, ""))
    feeds = ragged_feeds(signature, read=[40, 9], written=[6, 6])
    answer = eager(module)(feeds)["logits"]
    mask, given = feeds["attention_mask"], {}
    for stage in family.stages:
        graph = to_onnx(
            stage.part(module), stage.inputs(config, ""), outputs := stage.outputs(config, "")
        )
        proto = ir.serde.serialize_model(graph).SerializeToString()
        session = ort.InferenceSession(proto)
        taken = {"input_ids": feeds["input_ids"], "attention_mask": mask}
        if given:
            past = (t for t in stage.inputs(config, "") if t.name.startswith(PAST))
            taken = {
                **{t.name: np.zeros((2, int(t.shape[1]), 0, int(t.shape[3])), "f") for t in past},
                "encoder_attention_mask": mask,
                "encoder_hidden_states": given["last_hidden_state"],
                "input_ids": feeds["decoder_input_ids"],
                "use_cache_branch": np.array([False]),
            }
        names = [t.name for t in outputs]
        given = dict(zip(names, session.run(names, taken), strict=True))
    assert distance(given["logits"], answer) < LIMIT
