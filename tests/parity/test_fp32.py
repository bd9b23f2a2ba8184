"""The first rungs: our module and our float32 graph against eager transformers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgetfm.export import to_onnx
from edgetfm.graphs import save_graph
from edgetfm.models import TABLE, family_named
from edgetfm.parity import Comparison
from edgetfm.runtime.session import make_session
from edgetfm.signature import Feeds
from edgetfm.sources import Source, open_source
from edgetfm.tasks import TASKS

BOUND = 1e-5
TEXT_TYPES = TABLE["bert"].model_types
EVERY_HEAD = [
    (model_type, task)
    for name, row in TABLE.items()
    for model_type in row.model_types
    for task in row.tasks
    # tests/models/test_decoders.py, test_encoder_decoders.py: they have a past, too;
    # test_clip.py, test_detr.py: they have configurations in parts
    if not TASKS[task].generates and not family_named(name).stages and name not in ("clip", "detr")
]
GRAPHS = [
    *((t, "feature-extraction") for t in TEXT_TYPES if t != "mpnet"),
    *((t, task) for t in TABLE["vit"].model_types for task in TABLE["vit"].tasks),
    ("bert", "text-classification"),
    ("bert", "question-answering"),
    ("mpnet", "fill-mask"),
]
Ragged = Callable[[Source], Iterator[Feeds]]
Run = Callable[[Feeds], Feeds]
Exported = tuple[Source, Run]


def worst_error(
    source: Source, got: Run, wanted: Run, batches: Iterator[Feeds]
) -> dict[str, float]:
    """Absolute for hidden states and embeddings; for logits, which have no scale of their own,
    over max(1, the largest).
    """
    outputs = TASKS[source.task].outputs
    comparison = Comparison(outputs)
    for feeds in batches:
        comparison.add(got(feeds), wanted(feeds), feeds.get("attention_mask"))
    measures = comparison.measures()
    scaled = [o.name for o in outputs if o.kind in ("logits", "span")]
    return {k: m.max_error if k in scaled else m.max_abs for k, m in measures.items()}


def graph_of(source: Source, path: Path) -> Run:
    signature = source.signature
    save_graph(to_onnx(source.module(), signature.inputs, signature.outputs), path)
    return make_session(path, threads=1).run


@pytest.fixture(scope="module")
def mpnet(tiny_hf: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The graph that two tests look at."""
    folder = tmp_path_factory.mktemp("mpnet")
    source = opened(tiny_hf, "mpnet", "feature-extraction", folder)
    return source, graph_of(source, folder / "model.onnx")


def opened(tiny_hf: Callable[..., Path], model_type: str, task: str, folder: Path) -> Source:
    text = model_type in TEXT_TYPES
    positions: dict[str, Any] = {"max_position_embeddings": 140} if text else {}
    return open_source(tiny_hf(model_type, task, folder / "source", **positions), task=task)


@pytest.mark.parametrize(("model_type", "task"), EVERY_HEAD)
def test_every_head_of_every_type_equals_transformers(
    model_type: str, task: str, tiny_hf: Callable[..., Path], tmp_path: Path, ragged: Ragged
) -> None:
    source = opened(tiny_hf, model_type, task, tmp_path)
    module = source.module()

    def ours(feeds: Feeds) -> Feeds:
        with torch.no_grad():
            outputs = module(**{k: torch.from_numpy(v) for k, v in feeds.items()})
        return {k: v.numpy() for k, v in outputs.items()}

    errors = worst_error(source, ours, source.reference(), ragged(source))
    assert set(errors) == {o.name for o in source.signature.outputs}
    assert max(errors.values()) <= BOUND, errors


@pytest.mark.parametrize(("model_type", "task"), GRAPHS)
def test_the_graph_equals_transformers_at_every_shape(
    model_type: str, task: str, tiny_hf: Callable[..., Path], tmp_path: Path, ragged: Ragged
) -> None:
    source = opened(tiny_hf, model_type, task, tmp_path)
    graph = graph_of(source, tmp_path / "model.onnx")
    errors = worst_error(source, graph, source.reference(), ragged(source))
    assert max(errors.values()) <= BOUND, errors


def test_the_graph_of_a_real_sentence_encoder_equals_transformers(
    minilm_folder: Path, tmp_path: Path, ragged: Ragged
) -> None:
    source = open_source(minilm_folder)
    graph = graph_of(source, tmp_path / "model.onnx")
    errors = worst_error(source, graph, source.reference(), ragged(source))
    assert max(errors.values()) <= BOUND, errors


def test_the_graph_with_relative_positions_equals_transformers_at_every_shape(
    mpnet: Exported, ragged: Ragged
) -> None:
    source, graph = mpnet
    errors = worst_error(source, graph, source.reference(), ragged(source))
    assert max(errors.values()) <= BOUND, errors


def test_an_answer_does_not_depend_on_padding_or_neighbours(mpnet: Exported) -> None:
    source, graph = mpnet
    ids = np.random.default_rng(0).integers(5, source.config.vocabulary, size=(1, 9))
    alone = graph({"input_ids": ids, "attention_mask": np.ones_like(ids)})
    padded = np.full((3, 23), source.config.pad_token_id)
    padded[1, :9] = ids
    padded[[0, 2], :20] = 7
    mask = (padded != source.config.pad_token_id).astype(np.int64)
    together = graph({"input_ids": padded, "attention_mask": mask})
    difference = together["sentence_embedding"][1] - alone["sentence_embedding"][0]
    assert np.abs(difference).max() <= BOUND


def test_teacher_and_class_token_of_deit_are_averaged(tmp_path: Path, ragged: Ragged) -> None:
    import transformers

    config = transformers.DeiTConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=48,
        image_size=[24, 16],
        patch_size=8,
        num_channels=1,
        id2label={i: str(i) for i in range(5)},
    )
    model = transformers.DeiTForImageClassificationWithTeacher(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    model.save_pretrained(tmp_path)
    source = open_source(tmp_path)
    assert source.config.teacher
    graph = graph_of(source, tmp_path / "model.onnx")
    errors = worst_error(source, graph, source.reference(), ragged(source))
    assert max(errors.values()) <= BOUND, errors
