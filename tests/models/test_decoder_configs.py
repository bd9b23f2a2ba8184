"""What a decoder family takes of others' configs, and what it refuses in a sentence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers

from edgetfm.errors import NotHonoured, SourceError
from edgetfm.layers.rotary import Rotary
from edgetfm.models._family import Family
from edgetfm.models.gpt import FAMILY as GPT
from edgetfm.models.llama import FAMILY as LLAMA
from edgetfm.models.moe import FAMILY as MOE

TASK = "text-generation"
SMALL: dict[str, Any] = {
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 64,
    "head_dim": 16,
    "intermediate_size": 96,
    "vocab_size": 50,
    "max_position_embeddings": 64,
}


def complete(model_type: str, **config: Any) -> dict[str, Any]:
    """A config as transformers fills it in."""
    sizes = {} if model_type == "gpt2" else SMALL
    made: dict[str, Any] = transformers.AutoConfig.for_model(
        model_type, **(sizes | config)
    ).to_dict()
    return made


@pytest.mark.parametrize(
    ("model_type", "key", "value", "said"),
    [
        ("llama", "pretraining_tp", 2, "pretraining_tp is 2"),
        ("llama", "hidden_act", "mish", "hidden_act is 'mish'"),
        ("llama", "num_key_value_heads", 3, "num_key_value_heads (3) does not divide"),
        ("llama", "rope_parameters", None, "rope_parameters is None, expected a table"),
        ("llama", "rope_parameters", {"rope_type": "longrope"}, "rope_type is 'longrope'"),
        ("llama", "rope_parameters", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ("llama", "rope_parameters", {"rope_type": "llama3"}, "original_max_position_embeddings"),
        ("mistral", "layer_types", ["full_attention"], "expected one for each layer"),
        ("qwen3", "layer_types", ["full_attention", "chunked_attention"], "chunked_attention"),
        ("gemma3_text", "attn_logit_softcapping", 50.0, "attn_logit_softcapping is 50.0"),
        ("gemma3_text", "final_logit_softcapping", 30.0, "final_logit_softcapping is 30.0"),
        ("gemma3_text", "use_bidirectional_attention", True, "use_bidirectional_attention"),
        ("gemma3_text", "sliding_window", None, "sliding_window is missing"),
        ("gpt2", "add_cross_attention", True, "add_cross_attention is True"),
        ("gpt2", "n_head", 5, "n_head (5) does not divide"),
        ("gpt2", "activation_function", "mish", "activation_function is 'mish'"),
    ],
)
def test_what_cannot_be_honoured_is_refused(
    model_type: str, key: str, value: object, said: str
) -> None:
    family = GPT if model_type == "gpt2" else LLAMA
    assert family.from_hf is not None
    with pytest.raises(SourceError) as refused:
        family.from_hf.config({**complete(model_type), key: value}, TASK)
    assert said in str(refused.value)


def test_a_rope_that_the_family_lacks_is_not_honoured_which_another_route_may() -> None:
    assert LLAMA.from_hf is not None
    lacking = {"rope_type": "longrope", "partial_rotary_factor": 0.5}
    with pytest.raises(NotHonoured, match=r"(?s)rope_type is 'longrope'.*partial_rotary_factor"):
        LLAMA.from_hf.config({**complete("llama"), "rope_parameters": lacking}, TASK)
    far = {**complete("llama"), "rope_parameters": {"rope_theta": "far"}}
    with pytest.raises(SourceError) as malformed:
        LLAMA.from_hf.config(far, TASK)
    assert not isinstance(malformed.value, NotHonoured)


@pytest.mark.parametrize("family", [LLAMA, MOE], ids=lambda f: f.name)
def test_heads_that_no_kernel_turns_are_refused_early(family: Family) -> None:
    model_type = "llama" if family is LLAMA else "mixtral"
    assert family.from_hf is not None
    with pytest.raises(SourceError, match="head_size is 24, expected multiples of 16"):
        family.from_hf.config(complete(model_type, head_dim=24), TASK)


def test_a_local_layer_has_a_window() -> None:
    assert LLAMA.from_hf is not None
    config = LLAMA.from_hf.config(complete("mistral", sliding_window=7), TASK)
    with pytest.raises(SourceError, match="kinds is 'll', but window is 0"):
        replace(config, window=0)


def test_everything_wrong_is_said_at_once() -> None:
    wrong = {**complete("llama"), "hidden_act": "mish", "vocab_size": -1, "pretraining_tp": 2}
    assert LLAMA.from_hf is not None
    with pytest.raises(SourceError) as refused:
        LLAMA.from_hf.config(wrong, TASK)
    assert all(key in str(refused.value) for key in ("hidden_act", "vocab_size", "pretraining_tp"))


SCALED: dict[str, dict[str, Any]] = {
    "default": {},
    "linear": {"factor": 4.0},
    "dynamic": {"factor": 2.0},
    "llama3": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    },
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 16},
}


@pytest.mark.parametrize("scaling", SCALED)
def test_angles_are_those_of_transformers(scaling: str) -> None:
    rope = {"rope_type": scaling, "rope_theta": 5000.0, **SCALED[scaling]}
    config = complete("llama", rope_parameters=rope)
    assert LLAMA.from_hf is not None
    ours = LLAMA.from_hf.config(config, TASK)
    cos, sin = ours.rotary.tables(ours.head_size, ours.context)
    theirs = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(
        transformers.LlamaConfig(**(SMALL | {"rope_parameters": rope}))
    )
    wanted = theirs(torch.zeros(1), torch.arange(ours.context)[None])
    for table, their_table in zip((cos, sin), wanted, strict=True):
        torch.testing.assert_close(table, their_table[0, :, : ours.head_size // 2])


def test_a_rotation_keeps_lengths() -> None:
    cos, sin = Rotary().tables(16, 8)
    torch.testing.assert_close(cos**2 + sin**2, torch.ones(8, 8))


def test_layers_of_two_kinds_are_told_apart() -> None:
    assert LLAMA.from_hf is not None
    gemma = LLAMA.from_hf.config(
        complete("gemma3_text", layer_types=["sliding_attention", "full_attention"]), TASK
    )
    assert (gemma.kinds, gemma.sees) == ("lg", None)
    mistral = LLAMA.from_hf.config(complete("mistral", sliding_window=7), TASK)
    assert (mistral.kinds, mistral.sees) == ("ll", 7)
    assert LLAMA.from_hf.config(complete("llama"), TASK).kinds == ""
