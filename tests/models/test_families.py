"""The table, the files and what each family refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetfm import models
from edgetfm.errors import SourceError
from edgetfm.models._family import Drop, Pack, Rename, SwapAxes, Transpose
from edgetfm.models.bert import FAMILY as BERT
from edgetfm.models.vit import FAMILY as VIT
from edgetfm.tasks import TASKS

TEXT: dict[str, Any] = {
    "model_type": "bert",
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
    "type_vocab_size": 2,
}
IMAGE: dict[str, Any] = {
    "model_type": "vit",
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
    "num_channels": 3,
}


def test_the_table_lists_what_the_families_declare() -> None:
    for name, row in models.TABLE.items():
        family = models.family_named(name)
        assert (family.name, family.tasks) == (name, row.tasks)
        assert (family.from_hf.model_types if family.from_hf else ()) == row.model_types
        assert row.module == f"edgetfm.models.{name}"
        assert set(row.tasks) <= set(TASKS)


def test_every_file_is_one_family_named_as_the_file() -> None:
    files = Path(models.__file__).parent.glob("[!_]*.py")
    assert {f.stem for f in files} == set(models.TABLE)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"image_size": [32, 16], "num_channels": 1, "hidden_act": "relu", "qkv_bias": False},
        {"model_type": "deit", "hidden_dropout_prob": 0.1, "layer_norm_eps": 1e-6},
        {"model_type": "deit", "architectures": ["DeiTForImageClassificationWithTeacher"]},
    ],
)
def test_a_config_comes_back_from_hugging_faces_form(changed: dict[str, Any]) -> None:
    assert VIT.from_hf is not None
    assert VIT.to_hf is not None
    config = VIT.from_hf.config(IMAGE | changed, "image-classification")
    again = VIT.to_hf(config, "image-classification")
    assert VIT.from_hf.config(again, "image-classification") == config


def test_an_unknown_family_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SourceError, match=r"bert, .*vit"):
        models.family_named("mamba")
    assert models.family_for("mamba") is None


@pytest.mark.parametrize(
    ("family", "config", "key", "value"),
    [
        (BERT, TEXT, "is_decoder", True),
        (BERT, TEXT, "add_cross_attention", True),
        (BERT, TEXT, "position_embedding_type", "relative_key"),
        (BERT, TEXT, "relative_attention_num_buckets", 64),
        (BERT, TEXT, "hidden_act", "mish"),
        (BERT, TEXT, "embedding_size", 16),
        (BERT, TEXT, "num_attention_heads", 5),
        (BERT, TEXT, "hidden_size", None),
        (BERT, TEXT, "vocab_size", -1),
        (BERT, TEXT, "num_hidden_layers", True),
        (BERT, TEXT, "layer_norm_eps", float("nan")),
        (VIT, IMAGE, "patch_size", 7),
        (VIT, IMAGE, "image_size", [32, 32, 32]),
        (VIT, IMAGE, "num_channels", 4),
        (VIT, IMAGE, "hidden_act", 3),
        (VIT, IMAGE, "num_attention_heads", 0),
        (VIT, IMAGE, "head_dim", 16),
    ],
)
def test_a_value_that_cannot_be_honoured_is_refused_by_name(
    family: Any, config: dict[str, Any], key: str, value: Any
) -> None:
    task = family.tasks[0]
    assert family.from_hf.config(config, task)
    with pytest.raises(SourceError, match=key):
        family.from_hf.config(config | {key: value}, task)


def test_every_problem_of_a_config_is_listed_at_once() -> None:
    bad = TEXT | {"is_decoder": True, "hidden_act": "mish", "vocab_size": "many"}
    with pytest.raises(SourceError) as caught:
        BERT.from_hf.config(bad, "feature-extraction")  # type: ignore[union-attr]
    assert all(key in str(caught.value) for key in ("is_decoder", "hidden_act", "vocab_size"))


@pytest.mark.parametrize("family", [BERT, VIT], ids=lambda f: f.name)
def test_modules_can_be_trained(family: Any) -> None:
    config = family.from_hf.config(TEXT if family is BERT else IMAGE, family.tasks[0])
    for task in family.tasks:
        module = family.build(config, task)
        feeds = {
            spec.name: torch.ones([2 if isinstance(a, str) else a for a in spec.shape]).to(
                getattr(torch, spec.dtype)
            )
            for spec in family.inputs(config, task)
        }
        outputs = module.train()(**feeds)
        assert [(k, list(v.shape)) for k, v in outputs.items()] == [
            (s.name, [2 if isinstance(a, str) else a for a in s.shape])
            for s in family.outputs(config, task)
        ]
        sum(o.square().sum() for o in outputs.values()).backward()
        assert all(p.grad is not None for p in module.parameters())


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=3, max_size=3),
    width=st.integers(1, 5),
    prefix=st.sampled_from(["", "layers.0.attention."]),
)
def test_packing_keeps_the_order_of_the_parts(sizes: list[int], width: int, prefix: str) -> None:
    parts = {f"{prefix}{n}.weight": torch.rand(s, width) for n, s in zip("qkv", sizes, strict=True)}
    packed = Pack(("q", "k", "v"), "qkv")({**parts, "other.weight": torch.zeros(1)})
    assert set(packed) == {f"{prefix}qkv.weight", "other.weight"}
    torch.testing.assert_close(
        packed[f"{prefix}qkv.weight"].split(sizes), tuple(parts.values()), rtol=0, atol=0
    )


def test_rules_touch_only_what_matches() -> None:
    weights = {"a.weight": torch.rand(2, 3), "b.weight": torch.rand(2, 3)}
    assert set(Rename(r"^a\.", "c.")(weights)) == {"c.weight", "b.weight"}
    assert set(Drop(r"^a\.")(weights)) == {"b.weight"}
    for rule in (Transpose(r"^a\."), SwapAxes(r"^a\.", 0, 1)):
        turned = rule(weights)
        assert turned["a.weight"].shape == (3, 2)
        assert turned["a.weight"].data_ptr() == weights["a.weight"].data_ptr()  # a view, no copy
        assert turned["b.weight"] is weights["b.weight"]


def test_padding_repeats_the_first_token_so_that_it_widens_no_range() -> None:
    config = BERT.from_hf.config(TEXT, "feature-extraction")  # type: ignore[union-attr]
    module = BERT.build(config, "feature-extraction").eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ids = torch.tensor([[2, 9, 7, 0, 0, 0]])
    hidden = module(input_ids=ids, attention_mask=(ids != 0).long(), token_type_ids=ids * 0)
    states = hidden["last_hidden_state"][0]
    torch.testing.assert_close(states[3:], states[:1].expand(3, -1))


@pytest.mark.parametrize(
    "part", [torch.tensor(1.0), torch.zeros(3, 3), torch.zeros(2, 4, dtype=torch.int8)]
)
def test_parts_that_do_not_go_together_stay_apart(part: torch.Tensor) -> None:
    weights = {"a.q.weight": torch.zeros(2, 4), "a.k.weight": part}
    assert Pack(("q", "k"), "qk")(weights).keys() == weights.keys()


def test_only_matrices_are_turned() -> None:
    weights = {"a": torch.zeros(2, 3), "b": torch.zeros(2, 3, 4), "c": torch.zeros(())}
    assert [w.shape for w in Transpose("")(weights).values()] == [(3, 2), (2, 3, 4), ()]
    assert [w.shape for w in SwapAxes("", 0, 1)(weights).values()] == [(3, 2), (3, 2, 4), ()]
