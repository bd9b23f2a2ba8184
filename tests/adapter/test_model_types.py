"""Each row of model_types.toml: exported and equal to transformers' own answers, or refused."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import transformers

from edgetfm import export_model, load, quantize_bundle, verify_bundle
from edgetfm.bundle import open_bundle
from edgetfm.errors import BudgetError, QuantizationError, SourceError
from edgetfm.proof import Subject
from edgetfm.runtime.model import Model
from edgetfm.signature import Array, Feeds, Signature, TensorSpec
from edgetfm.tasks import TASKS
from tests.adapter.rows import AUTO, model_types

TinyOfType = Callable[[str, Path], Path]

SHAPES = ((1, 3), (2, 19), (5, 41))
"""(batch, sequence); for pictures the batch alone."""

TYPES = {name: row for name, row in model_types().items() if "native" not in row}
ROWS = [
    pytest.param(name, marks=() if row.get("fast") else pytest.mark.slow)
    for name, row in TYPES.items()
]
EXPORTED = [p for p in ROWS if "refused" not in TYPES[str(p.values[0])]]
QUICK = [name for name, row in TYPES.items() if row.get("fast") and "refused" not in row]
REFUSED = [p for p in ROWS if "refused" in TYPES[str(p.values[0])]]


DENSE = {
    "object-detection": "objects in pictures",
    "image-segmentation": "classes of pixels",
    "depth-estimation": "depth",
}
SENSES = {("text",): "text", ("image",): "pictures", ("audio",): "sounds"}


def kind_of(task: str) -> str:
    """The row of the docs that a task's types are in."""
    return DENSE.get(task) or SENSES.get(TASKS[task].senses, "texts with pictures")


def feeds_of(signature: Signature, vocabulary: int, batch: int, sequence: int) -> Feeds:
    """Random ids or pixels; each row of ids but the first is shorter than the one before."""
    names = {t.name: t for t in signature.inputs}
    if "pixel_values" in names:
        pictures = pictures_of(names.pop("pixel_values"), batch)
        beside = Signature(tuple(names.values()), ())
        return pictures | (feeds_of(beside, vocabulary, batch, sequence) if names else {})
    if "input_ids" not in names:
        return sounds_of(signature, batch, sequence)
    random = np.random.default_rng(batch)
    fixed = names["input_ids"].shape[1]
    sequence = fixed if isinstance(fixed, int) else sequence
    mask = np.ones((batch, sequence), np.int64)
    for row in range(batch):
        mask[row, sequence - row * sequence // (batch + 1) :] = 0
    ids = random.integers(5, vocabulary, (batch, sequence)) * mask
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": mask * 0}
    return {t.name: feeds[t.name] for t in signature.inputs}


def pictures_of(spec: TensorSpec, batch: int) -> Feeds:
    """Noise; another batch than that of texts beside, and of free sizes that differ."""
    sizes = {
        "batch": batch,
        "image_batch": batch + 1,
        "height": 64 + 32 * (batch % 3),
        "width": 96 + 32 * (batch % 2),
    }
    shape = [sizes[a] if isinstance(a, str) else a for a in spec.shape]
    noise = np.random.default_rng(batch).standard_normal(shape)
    return {spec.name: noise.astype(np.float32)}


def sounds_of(signature: Signature, batch: int, sequence: int) -> Feeds:
    """Noise of 90 samples or two frames to a token, padded with zeros where there is a mask."""
    values = signature.inputs[0]
    free = isinstance(values.shape[1], str)
    length = 2 * sequence if values.shape[1] == "sequence" else 6000 + 90 * sequence
    shape = (batch, length if free else values.shape[1], *values.shape[2:])
    sound = np.random.default_rng(batch).standard_normal(shape).astype(np.float32)
    if len(signature.inputs) == 1:
        return {values.name: sound}
    mask = np.ones(shape[:2], np.int64)
    for row in range(batch):
        mask[row, length - row * length // (2 * batch + 1) :] = 0
    sound[mask == 0] = 0
    return {values.name: sound, "attention_mask": mask}


def frames_of(model: Model, feeds: Feeds, count: int) -> Array:
    """Which frames come of a sound and not of its padding, by what edgetfm compares."""
    task = Subject.of_bundle(model.bundle.manifest).task
    kept = [task.outputs[0].length(int(n)) for n in feeds["attention_mask"].sum(1)]
    return np.arange(count) < np.array(kept)[:, None]


def asked(folder: Path, task: str, feeds: list[Feeds]) -> list[dict[str, Array]]:
    """What transformers answers by itself: every output that is one tensor, by its name."""
    auto = getattr(transformers, AUTO[task])
    model = auto.from_pretrained(folder, attn_implementation="eager").eval()
    answers = []
    for one in feeds:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = model(**{name: torch.from_numpy(a) for name, a in one.items()})
        answers.append({k: v.numpy() for k, v in answer.items() if isinstance(v, torch.Tensor)})
    return answers


@pytest.mark.parametrize("model_type", EXPORTED)
def test_a_type_without_a_family_answers_as_transformers_does(
    model_type: str, tiny_of_type: TinyOfType, tmp_path: Path
) -> None:
    task, kind = TYPES[model_type]["task"], TYPES[model_type].get("type", model_type)
    source = tiny_of_type(model_type, tmp_path / "source")
    result = export_model(source, tmp_path / "bundle", task=task)
    assert (result.route, result.family, result.task) == ("adapter", kind, task)
    assert result.ledger.passed
    file = result.path / "onnx" / "model.onnx"
    onnx.checker.check_model(str(file), full_check=True)
    assert {node.domain for node in onnx.load(file).graph.node} <= {""}

    assert verify_bundle(result.path, reference=source).passed

    model = load(result.path)
    signature = open_bundle(result.path).manifest.components["model"].signature
    config = transformers.AutoConfig.from_pretrained(source).to_dict()
    vocabulary = config.get("text_config", config).get("vocab_size", 0)
    feeds = [feeds_of(signature, min(vocabulary, 60), *shape) for shape in SHAPES]
    for one, theirs in zip(feeds, asked(source, task, feeds), strict=True):
        ours = model.run(**one)
        real = one.get("attention_mask", np.ones(1)).astype(bool)
        for name in sorted(ours.keys() & theirs.keys()):
            got, wanted = ours[name], theirs[name]
            assert got.shape == wanted.shape
            if "input_ids" not in one and real.ndim == 2 and got.ndim == 3:
                kept = frames_of(model, one, got.shape[1])
                got, wanted = got[kept], wanted[kept]
            elif real.ndim == 2 and got.shape[:2] == real.shape:
                got, wanted = got[real], wanted[real]
            np.testing.assert_allclose(got, wanted, atol=1e-4, rtol=1e-4)
        assert ours.keys() & theirs.keys()
    if not TYPES[model_type].get("fast"):
        check_int8(result.path, tmp_path / "int8")


@pytest.mark.slow
@pytest.mark.parametrize("model_type", QUICK)
def test_int8_keeps_its_budget_or_is_refused(
    model_type: str, tiny_of_type: TinyOfType, tmp_path: Path
) -> None:
    """Of the types whose float graph is tested more often."""
    source = tiny_of_type(model_type, tmp_path / "source")
    exported = export_model(source, tmp_path / "bundle", task=TYPES[model_type]["task"])
    check_int8(exported.path, tmp_path / "int8")


def check_int8(bundle: Path, output: Path) -> None:
    """int8 is inside the default budget, or nothing is made; which, docs/model-types.md says."""
    try:
        result = quantize_bundle(bundle, output, quantize="int8")
    except (BudgetError, QuantizationError):  # nothing to quantize
        assert not output.exists()
        return
    assert (result.variant, result.ledger.passed) == ("int8", True)
    assert verify_bundle(output).passed
    graph = onnx.load(output / "onnx" / "model_int8.onnx").graph
    assert {n.op_type for n in graph.node} & {"MatMulInteger", "ConvInteger"}


@pytest.mark.parametrize("model_type", REFUSED)
def test_a_type_that_cannot_be_exported_is_refused_in_a_sentence(
    model_type: str, tiny_of_type: TinyOfType, tmp_path: Path
) -> None:
    row = TYPES[model_type]
    source = tiny_of_type(model_type, tmp_path / "source")
    with pytest.raises(SourceError) as caught:
        export_model(source, tmp_path / "bundle", task=row["task"])
    assert caught.value.exit_code == 2
    assert row["refused"] in str(caught.value)
    assert not (tmp_path / "bundle").exists()


def test_the_docs_list_exactly_these_types() -> None:
    page = (Path(__file__).parents[2] / "docs" / "model-types.md").read_text("utf-8")
    exported, refused = (part.split("\n\n")[0] for part in re.split(r"<!-- \w+ -->\n", page)[1:])
    rows = {row.split("|")[1].strip(): row.split("|")[2].strip() for row in exported.splitlines()}
    wanted: dict[str, set[str]] = {}
    for name, row in TYPES.items():
        if "refused" not in row:
            wanted.setdefault(kind_of(row["task"]), set()).add(row.get("type", name))
    assert {title: set(names.split(", ")) for title, names in rows.items() if title in wanted} == (
        wanted
    )
    named = [row.split("|")[1] for row in refused.splitlines()[2:]]
    listed = {name for row in named for name in re.findall(r"[\w-]+", row.partition(" and ")[0])}
    assert listed == {name for name, row in TYPES.items() if "refused" in row}
