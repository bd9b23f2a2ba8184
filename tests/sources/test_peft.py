"""Adapters are merged into their base, and answer as they did beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from edgetfm.errors import SourceError
from edgetfm.files import sha256
from edgetfm.runtime.model import load
from edgetfm.sources import open_source
from edgetfm.sources._reference import quiet_transformers
from edgetfm.workflow.export import export_model

FEEDS = {
    "input_ids": np.array([[2, 9, 11, 30, 3], [2, 17, 3, 0, 0]], np.int64),
    "attention_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int64),
    "token_type_ids": np.zeros((2, 5), np.int64),
}


@pytest.fixture(scope="module")
def base(tiny_hf: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_hf("bert", "fill-mask", tmp_path_factory.mktemp("peft") / "base")


CLASSIFIER = "AutoModelForSequenceClassification"


def trained(base: Path, folder: Path, config: Any, auto: str, **options: Any) -> Any:
    """An adapter with random weights, none of them zero, saved as PEFT saves it."""
    from peft import get_peft_model

    with quiet_transformers():
        model = getattr(transformers, auto).from_pretrained(base, **options)
        model = get_peft_model(model, config)
    torch.manual_seed(5)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                weight.copy_(torch.randn_like(weight) * 0.3 + 0.05)
            assert weight.abs().sum() > 0 or "bias" in name
    with quiet_transformers():
        model.save_pretrained(folder)
    return model.eval()


def lora(task: str | None = "SEQ_CLS", **options: Any) -> Any:
    from peft import LoraConfig

    return LoraConfig(task_type=task, r=4, lora_alpha=8, target_modules=["query", "value"],
                      **options)  # fmt: skip


def answers(model: Any) -> np.ndarray:
    with torch.no_grad():
        return model(**{n: torch.from_numpy(a) for n, a in FEEDS.items()}).logits.numpy()


@pytest.mark.slow
def test_a_lora_with_its_own_head_answers_as_it_did_unmerged(base: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    config = lora(modules_to_save=["classifier", "pooler"])
    unmerged = trained(base, adapter, config, CLASSIFIER, num_labels=3)
    wanted = answers(unmerged)
    with unmerged.disable_adapter():
        assert np.abs(answers(unmerged) - wanted).max() > 0.1  # it changes what is answered
    result = export_model(adapter, tmp_path / "bundle")
    assert (result.task, result.route) == ("text-classification", "native")
    assert result.ledger.passed
    assert {"bert module", "fp32 graph"} <= {rung.name for rung in result.ledger.rungs}
    assert "the LORA adapter was merged into base" in result.notes
    model = load(tmp_path / "bundle")
    assert np.abs(model.run(FEEDS)["logits"] - wanted).max() < 1e-5
    manifest = json.loads((tmp_path / "bundle/edgetfm.json").read_text())
    assert manifest["source"]["kind"] == "peft"
    assert manifest["source"]["sha256"]["base/model.safetensors"] == sha256(
        base / "model.safetensors"
    )
    own = sha256(adapter / "adapter_model.safetensors")
    assert manifest["source"]["sha256"]["adapter/adapter_model.safetensors"] == own
    assert len(manifest["labels"]) == 3
    assert str(tmp_path) not in (tmp_path / "bundle/config.json").read_text()


@pytest.mark.parametrize("route", ["native", "adapter"])
@pytest.mark.parametrize(
    ("options", "task", "auto"),
    [
        ({"use_dora": True, "bias": "lora_only"}, "TOKEN_CLS", "AutoModelForTokenClassification"),
        ({"use_rslora": True, "rank_pattern": {"query": 2}}, "FEATURE_EXTRACTION", "AutoModel"),
        ({}, None, "AutoModelForMaskedLM"),
        ({"modules_to_save": ["classifier", "pooler"]}, "SEQ_CLS", CLASSIFIER),
    ],
)
def test_merged_and_unmerged_agree_on_both_routes(
    base: Path, tmp_path: Path, options: dict[str, Any], task: str | None, auto: str, route: str
) -> None:
    trained(base, tmp_path / "adapter", lora(task, **options), auto)
    opened = open_source(tmp_path / "adapter", route=route)
    merged = opened.module()(**{n: torch.from_numpy(a) for n, a in FEEDS.items()})
    for name, wanted in opened.reference()(FEEDS).items():
        counts = FEEDS["attention_mask"][:, :, None] if wanted.ndim == 3 else 1
        assert np.abs((merged[name].numpy() - wanted) * counts).max() < 1e-4 * np.abs(wanted).max()


def test_a_base_is_found_beside_the_adapter(base: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    config = lora(modules_to_save=["classifier", "pooler"])
    trained(base, adapter, config, CLASSIFIER)
    edit(adapter, base_model_name_or_path="/home/someone/models/tiny")
    with pytest.raises(SourceError, match=r"trained on '/home/someone.*put it there"):
        open_source(adapter)
    (tmp_path / "tiny").symlink_to(base)
    opened = open_source(adapter)
    assert opened.provenance["base"] == "tiny"
    assert "tokenizer.json" in opened.assets


def test_a_sentence_encoder_keeps_its_head_and_a_classifier_of_it_has_none(
    base: Path, tmp_path: Path
) -> None:
    import shutil

    encoder = tmp_path / "encoder"
    shutil.copytree(base, encoder)
    stages = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    kinds = [{"path": at, "type": f"sentence_transformers.models.{kind}"} for at, kind in stages]
    (encoder / "modules.json").write_text(json.dumps(kinds))
    (encoder / "1_Pooling").mkdir()
    (encoder / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    trained(encoder, tmp_path / "vectors", lora("FEATURE_EXTRACTION"), "AutoModel")
    opened = open_source(tmp_path / "vectors")
    assert (opened.config.pooling, opened.config.normalize) == ("cls", True)
    config = lora(modules_to_save=["classifier", "pooler"])
    trained(encoder, tmp_path / "classes", config, CLASSIFIER)
    assert open_source(tmp_path / "classes").task == "text-classification"


def test_the_merged_copy_goes_with_the_model(base: Path, tmp_path: Path) -> None:
    import gc
    import tempfile

    left = set(Path(tempfile.gettempdir()).glob("edgetfm-peft-*"))
    config = lora(modules_to_save=["classifier", "pooler"])
    trained(base, tmp_path / "adapter", config, CLASSIFIER)
    opened = open_source(tmp_path / "adapter")
    opened.module()
    del opened
    gc.collect()
    assert set(Path(tempfile.gettempdir()).glob("edgetfm-peft-*")) <= left


def test_a_decoder_with_an_adapter_goes_on_as_it_did_unmerged(tmp_path: Path) -> None:
    from peft import LoraConfig

    sizes = {"vocab_size": 60, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
    with quiet_transformers():
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, **heads))
        model.save_pretrained(tmp_path / "base")
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear")
    unmerged = trained(tmp_path / "base", tmp_path / "adapter", config, "AutoModelForCausalLM")
    opened = open_source(tmp_path / "adapter")
    assert (opened.kind, opened.task) == ("peft", "text-generation")
    feeds = {n: FEEDS[n][:1] for n in ("input_ids", "attention_mask")}
    with torch.no_grad():
        wanted = unmerged(**{n: torch.from_numpy(a) for n, a in feeds.items()}).logits.numpy()
    assert np.abs(opened.reference()(feeds)["logits"] - wanted).max() < 1e-5


def edit(adapter: Path, **values: Any) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_what_cannot_be_merged_says_why(base: Path, tmp_path: Path) -> None:
    from peft import PromptEncoderConfig

    adapter = tmp_path / "adapter"
    trained(base, adapter, lora(modules_to_save=["classifier", "pooler"]), CLASSIFIER)
    edit(adapter, peft_type="MAGIC")
    refused(adapter, "peft_type 'MAGIC', which PEFT does not know")
    edit(adapter, peft_type="LORA", megatron_config={"a": 1})
    refused(adapter, "megatron_config, which edgetfm does not honour")
    edit(adapter, megatron_config=None, task_type=None)
    refused(adapter, "does not say what it is for .* choose with --task")
    edit(adapter, task_type="TOKEN_CLS", base_model_name_or_path=None)
    refused(adapter, "does not name its base model")
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    edit(adapter, base_model_name_or_path=str(base))
    refused(adapter, "not a whole safetensors file")
    weights.unlink()
    refused(adapter, "has no weights: expected adapter_model.safetensors")
    (adapter / "adapter_model.bin").write_bytes(b"pickle")
    refused(adapter, "only adapter_model.bin, which is unpickled: .* which save_pretrained")
    prompt = PromptEncoderConfig(task_type="TOKEN_CLS", num_virtual_tokens=3)
    trained(base, tmp_path / "prompt", prompt, "AutoModelForTokenClassification")
    refused(tmp_path / "prompt", "P_TUNING adapter: learned tokens, which are no weights to merge")


def test_a_head_without_weights_is_refused(base: Path, tmp_path: Path) -> None:
    trained(base, tmp_path / "adapter", lora("FEATURE_EXTRACTION"), "AutoModel")
    edit(tmp_path / "adapter", task_type="SEQ_CLS")
    refused(tmp_path / "adapter", "which would be random: train the head with modules_to_save")


def test_a_config_of_other_types_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").touch()
    (tmp_path / "adapter_config.json").write_text('{"peft_type": ["LORA"]}')
    refused(tmp_path, "which PEFT does not know")


def test_an_adapter_of_another_model_is_refused(base: Path, tmp_path: Path) -> None:
    trained(base, tmp_path, lora("FEATURE_EXTRACTION"), "AutoModel")
    file = tmp_path / "adapter_model.safetensors"
    weights = load_file(file)
    save_file({n.replace("layer.1", "layer.7"): w for n, w in weights.items()}, file)
    refused(tmp_path, "lacks .* weights of the adapter, such as .*layer.1")


def refused(folder: Path, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        open_source(folder)
