"""The parts that config words choose: each combination is exported and answers as its module."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from torch import nn

from edgetfm.errors import SourceError
from edgetfm.export import to_onnx
from edgetfm.layers.experts import balance_loss
from edgetfm.models.bert import FAMILY as BERT
from edgetfm.models.gpt import FAMILY as GPT
from edgetfm.signature import Feeds, Signature

SMALL = {"vocabulary": 50, "width": 24, "layers": 1, "heads": 3, "inner": 32}
EXPERTS = {"feed_forward": "moe", "experts": 3, "chosen": 2}
ENCODERS: dict[str, dict[str, Any]] = {
    "sparse": {
        "attention": "sparse", "window": 8, "norm": "rms", "norm_place": "pre",
        "feed_forward": "swiglu", "place": "sinusoidal",
    },
    "linear": {"attention": "linear", **EXPERTS},
}  # fmt: skip
DECODERS: dict[str, dict[str, Any]] = {
    "rotary": {
        "positions": "rotary", "key_heads": 1, "norm": "rms", "norm_place": "post",
        "feed_forward": "swiglu", "width": 48,
    },
    "sinusoidal": {"positions": "sinusoidal", **EXPERTS},
}  # fmt: skip


def wide(module: nn.Module) -> Any:
    torch.manual_seed(2)
    for name, parameter in module.named_parameters():
        nn.init.normal_(parameter, std=0.3)
        if "norm" in name and name.endswith("weight"):
            parameter.data += 1.0
    return module.eval()


def opened(family: Any, config: Any, task: str) -> tuple[Any, ort.InferenceSession]:
    module = wide(family.build(config, task))
    graph = to_onnx(module, family.inputs(config, task), family.outputs(config, task))
    return module, ort.InferenceSession(ir.to_proto(graph).SerializeToString())


def asked(family: Any, config: Any, task: str, batch: int, length: int) -> Feeds:
    """Ragged whole texts: a row of full length, then shorter ones."""
    random = np.random.default_rng(batch * length)
    ids = random.integers(1, config.vocabulary, (batch, length))
    lengths = np.maximum(1, length - np.arange(batch) * length // 2)
    mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
    signature = Signature(family.inputs(config, task), family.outputs(config, task))
    feeds = {"input_ids": ids, "attention_mask": mask}
    if "token_type_ids" in [t.name for t in signature.inputs]:
        feeds["token_type_ids"] = np.zeros_like(ids)
    if signature.has_cache:
        feeds = signature.whole_texts(feeds) | {"num_logits_to_keep": np.array(0)}
    return feeds


def compare(family: Any, config: Any, task: str, shapes: tuple[tuple[int, int], ...]) -> None:
    module, session = opened(family, config, task)
    for batch, length in shapes:
        feeds = asked(family, config, task, batch, length)
        with torch.no_grad():
            wanted = module(
                **{n: torch.from_numpy(a) for n, a in feeds.items() if "past" not in n}
            )["logits"].numpy()
        got = session.run(["logits"], feeds)[0]
        real = feeds["attention_mask"] > 0
        difference = np.abs(got - wanted)[real] if got.ndim == 3 else np.abs(got - wanted)
        assert difference.max() < 1e-5 * max(1.0, np.abs(wanted).max()), (batch, length)


@pytest.mark.parametrize("words", [pytest.param("sparse", marks=pytest.mark.slow), "linear"])
def test_an_encoder_of_other_parts_is_its_module_at_odd_shapes(words: str) -> None:
    config = BERT.config(**SMALL, positions=80, **ENCODERS[words])
    compare(BERT, config, "fill-mask", ((1, 1), (2, 5), (3, 17), (2, 73)))


@pytest.mark.parametrize("words", ["rotary", pytest.param("sinusoidal", marks=pytest.mark.slow)])
def test_a_decoder_of_other_parts_is_its_module_at_odd_shapes(words: str) -> None:
    config = GPT.config(**{**SMALL, **DECODERS[words]}, context=80)
    compare(GPT, config, "text-generation", ((1, 1), (2, 5), (3, 17)))


@pytest.mark.parametrize(
    ("family", "words"),
    [(BERT, w) for w in ENCODERS.values()] + [(GPT, w) for w in DECODERS.values()],
)
def test_every_weight_of_other_parts_is_trained(family: Any, words: dict[str, Any]) -> None:
    sizes = {"positions": 80} if family is BERT else {"context": 80}
    config = family.config(**{**SMALL, **sizes, **words})
    module = wide(family.build(config, family.tasks[-1])).train()
    ids = torch.randint(1, 50, (8, 33))
    feeds = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if family is BERT:
        feeds["token_type_ids"] = torch.randint(0, 2, ids.shape)
    loss = module(**feeds)["logits"].square().mean()
    (loss + balance_loss(module, feeds["attention_mask"])).backward()
    assert [n for n, p in module.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("form", ["sparse", "linear"])
def test_a_decoder_with_a_cache_refuses_forms_that_have_none(form: str) -> None:
    with pytest.raises(SourceError, match=f"(?s)attention is '{form}', but gpt writes a token"):
        GPT.config(**SMALL, context=80, attention=form)


def test_a_bias_of_distances_needs_all_scores() -> None:
    with pytest.raises(SourceError, match=r"32 distance_buckets: .* Take attention dense"):
        BERT.config(**SMALL, positions=80, attention="linear", distance_buckets=32)


def test_unknown_words_are_listed_with_the_known_ones() -> None:
    with pytest.raises(SourceError) as caught:
        BERT.config(**SMALL, positions=80, norm="batch", feed_forward="mlp", attention="flash")
    assert all(
        said in str(caught.value)
        for said in ("known are layer, rms", "known are plain, relu", "known are dense, sparse")
    )
