"""Texts are foretold by a decoder as by transformers, in windows that its context holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgetfm import pipeline
from edgetfm.errors import DataError
from edgetfm.scoring.evaluation import LabelledData, read_eval
from edgetfm.tasks import TASKS
from tests.conftest import CORPUS
from tests.plain import Exported


def written(texts: list[str], file: Path) -> LabelledData:
    file.write_text("\n".join(texts), encoding="utf-8")
    data = read_eval(str(file), TASKS["text-generation"], ())
    assert isinstance(data, LabelledData)
    assert (data.metric_name, data.higher_is_better) == ("perplexity", False)
    return data


def test_the_perplexity_of_texts_is_that_of_the_loss_in_transformers(
    tiny_decoder_bundle: Callable[..., Exported], tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    exported = tiny_decoder_bundle("gpt2")
    pipe = pipeline(exported.bundle)
    context = pipe.model.bundle.manifest.generation["context"]
    texts = [*CORPUS[:3], " ".join(CORPUS)]
    data = written(texts, tmp_path / "a.txt")
    model = AutoModelForCausalLM.from_pretrained(exported.source).eval()
    tokenizer = AutoTokenizer.from_pretrained(exported.source)
    losses, count = 0.0, 0
    for text in texts:
        ids = tokenizer(text, return_tensors="pt", truncation=False)["input_ids"][0]
        for start in range(0, len(ids) - 1, context):
            window = ids[start : start + context + 1]
            with torch.no_grad():
                logits = model(window[None, :-1]).logits[0]
            losses += float(torch.nn.functional.cross_entropy(logits, window[1:], reduction="sum"))
        count += len(ids) - 1
    assert len(ids) > 2 * context
    found = data.score(pipe)
    assert found.value == pytest.approx(float(torch.tensor(losses / count).exp()), rel=1e-4)
    assert found.counts is not None
    assert found.counts.shape == (len(texts), 2)
    assert found.error_beside(found) == 0


def test_texts_of_a_token_are_too_short(
    tiny_decoder_bundle: Callable[..., Exported], tmp_path: Path
) -> None:
    data = written(["a"], tmp_path / "a.txt")
    with pytest.raises(DataError, match="no token comes second"):
        data.score(pipeline(tiny_decoder_bundle("gpt2").bundle))
