"""Hugging Face encoders without a family of ours: transformers' own module, with our signatures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from edgetfm import assets
from edgetfm.errors import SourceError
from edgetfm.files import sha256
from edgetfm.layers.pooling import normalize, pool
from edgetfm.models._family import Family
from edgetfm.runtime.shapes import asked
from edgetfm.signature import Feeds, Signature, TensorSpec
from edgetfm.sources import _reference, _weights
from edgetfm.sources._encoders import (
    IMAGE_TASKS,
    TEXT_TASKS,
    check_modality,
    load_encoder,
    parameters,
    pools_first,
    refuse_others,
    task_of_body,
    task_of_head,
)
from edgetfm.sources._picture import check_pictures
from edgetfm.sources._source import Oracle, Source, eager
from edgetfm.tasks import TASKS, Task

_TEXT = ("batch", "sequence")


@dataclass(frozen=True)
class AdapterConfig:
    """What is known of a transformers model beside its own config.

    longest: the most tokens it takes. image_size: (height, width). For a text model the image's
    fields are zero, and the other way round.
    """

    model_type: str
    longest: int = 0
    vocabulary: int = 0
    image_size: tuple[int, int] = (0, 0)
    channels: int = 0
    pooling: str = "mean"
    normalize: bool = False


class Adapted(nn.Module):
    """A transformers model that gives the outputs of a task by name, and nothing else."""

    def __init__(self, model: Any, task: str, pooling: assets.Pooling) -> None:
        super().__init__()
        self.model, self.task, self.pooling = model, task, pooling
        self.config = model.config  # the exporter asks for it

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """The inputs as transformers names them; the outputs are the task's."""
        answer = self.model(**inputs)
        names = [output.name for output in TASKS[self.task].outputs]
        if not self.task.endswith("feature-extraction"):
            return {name: answer[name] for name in names}
        hidden: Tensor = answer["last_hidden_state"]
        if self.task == "image-feature-extraction":
            first = pools_first(self.model)
            vector = hidden[:, 0] if first else _image_vector(answer, hidden)
            return dict(zip(names, (hidden, vector), strict=True))
        vector = pool(hidden, inputs["attention_mask"], self.pooling.how)
        vector = normalize(vector) if self.pooling.normalize else vector
        return dict(zip(names, (hidden, vector), strict=True))


def _image_vector(answer: Any, hidden: Tensor) -> Tensor:
    """What the model itself pools, else the mean over places: [batch, width].

    hidden: [batch, tokens, width], or [batch, channels, height, width].
    """
    pooled: Tensor | None = answer.get("pooler_output")
    if pooled is not None:
        return pooled.flatten(1)
    return hidden.mean(dim=1) if hidden.ndim == 3 else hidden.flatten(2).mean(dim=2)


def open_adapted(
    folder: Path, name: str, raw: Mapping[str, Any], task: str | None, *, trust_remote_code: bool
) -> Source:
    """The model in a Hugging Face folder, whatever its type, if it is an encoder.

    task: the name of one; None is what the config's head says, and features without a head.
    Raises SourceError for what transformers cannot load, for decoders, and for models that take
    more than one text or one picture.
    """
    refuse_others(raw, folder)
    paths = _weights.weight_files(folder)
    _weights.check_finite(_weights.open_weights(paths))
    pooling = assets.read_pooling(folder)
    chosen = task or task_of_head(raw, folder)
    model, left_out = load_encoder(folder, chosen, trust_remote_code)
    if chosen is None:
        chosen = task_of_body(model)
    modality = check_modality(model, chosen)
    module = Adapted(model, chosen, pooling).eval()
    config = (_text_config if modality == "text" else _image_config)(module, folder)
    inputs = (_text_inputs if modality == "text" else _image_inputs)(module, folder, config)
    signature = Signature(inputs, _outputs(module, inputs))
    prepared = assets.read_inputs(folder, modality, config, trust_remote_code=trust_remote_code)
    if modality == "image":
        check_pictures(folder, prepared, signature)
    tasks = TEXT_TASKS if modality == "text" else IMAGE_TASKS
    wanted = chosen

    def build() -> Adapted:
        loaded, _ = load_encoder(folder, wanted, trust_remote_code)
        return Adapted(loaded, wanted, pooling).eval()

    return Source(
        kind="huggingface",
        name=name,
        family=Family(
            name=config.model_type,
            tasks=tasks,
            config=AdapterConfig,
            build=lambda _config, _task: build(),
            inputs=lambda _config, _task: signature.inputs,
            outputs=lambda _config, _task: signature.outputs,
        ),
        config=config,
        task=chosen,
        provenance={
            "kind": "huggingface",
            "name": name,
            "model_type": config.model_type,
            "sha256": {p.name: sha256(p) for p in [folder / "config.json", *paths]},
        },
        build_module=build,
        build_reference=lambda: _answering(build()),
        assets={"config.json": (folder / "config.json").read_bytes(), **prepared.assets},
        preprocessing=prepared.preprocessing,
        labels=_labels(model.config) if chosen.endswith("-classification") else (),
        licence=assets.read_licence(folder),
        notes=(
            f"the graph of this {config.model_type} is made by transformers.exporters",
            *left_out,
            *prepared.notes,
        ),
        route="adapter",
    )


def _answering(module: Adapted) -> Oracle:
    """A transformers model as a function from arrays to arrays, without its warnings.

    Raises SourceError for inputs that the model itself does not take.
    """
    ask = eager(module)

    def run(feeds: Feeds) -> Feeds:
        try:
            with _reference.quiet_transformers():
                return ask(feeds)
        except MemoryError:
            raise
        except Exception as error:  # whatever a model's own code raises
            given = ", ".join(f"{n} {a.dtype}{list(a.shape)}" for n, a in feeds.items())
            first = next(iter(str(error).splitlines()), "")
            raise SourceError(
                f"{type(module.model).__name__} does not answer to {given}: "
                f"{type(error).__name__}: {first}"
            ) from error

    return run


# --- what it takes and gives --------------------------------------------------------------------


def _text_config(module: Adapted, _folder: Path) -> AdapterConfig:
    return AdapterConfig(
        model_type=str(module.config.model_type),
        longest=_longest(module.model),
        vocabulary=_vocabulary(module.model),
        pooling=module.pooling.how,
        normalize=module.pooling.normalize,
    )


def _text_inputs(module: Adapted, folder: Path, _config: AdapterConfig) -> tuple[TensorSpec, ...]:
    """Token types only where the model tells them apart and its tokenizer makes them."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    types = getattr(module.config, "type_vocab_size", 0)
    made = assets.read_json(folder / "tokenizer_config.json").get("model_input_names") or names
    typed = "token_type_ids" in parameters(module.model) and isinstance(types, int) and types > 1
    typed = typed and "token_type_ids" in made
    return tuple(TensorSpec(name, "int64", _TEXT) for name in names[: 3 if typed else 2])


def _vocabulary(model: Any) -> int:
    """The rows of the table that ids are looked up in; any id is taken where there is none."""
    try:
        table = model.get_input_embeddings()
    except NotImplementedError:
        return 1 << 31
    return int(getattr(table, "num_embeddings", getattr(model.config, "vocab_size", 1 << 31)))


_UNLIMITED = 512
"""Tokens, for a model without a table of positions whose tokenizer sets no limit either."""


def _longest(model: Any) -> int:
    """The most tokens that a model has positions for."""
    for name, module in model.named_modules():
        table = name.rpartition(".")[2] == "position_embeddings" and isinstance(
            module, nn.Embedding
        )
        if table and module.padding_idx is not None:  # counted from behind the padding's
            return int(module.num_embeddings - module.padding_idx - 1)
    known = getattr(model.config, "max_position_embeddings", None)
    return known if isinstance(known, int) and known > 0 else _UNLIMITED


def _image_config(module: Adapted, folder: Path) -> AdapterConfig:
    config = module.config
    return AdapterConfig(
        model_type=str(config.model_type),
        image_size=assets.read_image_size(folder, getattr(config, "image_size", None)),
        channels=getattr(config, "num_channels", 3),
    )


def _image_inputs(_module: Adapted, _folder: Path, config: AdapterConfig) -> tuple[TensorSpec, ...]:
    shape = ("batch", config.channels, *config.image_size)
    return (TensorSpec("pixel_values", "float32", shape),)


def _outputs(module: Adapted, inputs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    """The outputs' shapes, found by asking; a SourceError if the model does not answer."""
    task: Task = TASKS[module.task]
    run = _answering(module)
    given = tuple(TensorSpec(output.name, "float32", ()) for output in task.outputs)
    seen: list[tuple[Feeds, Feeds]] = []

    def ask(feeds: Feeds) -> Feeds:
        seen.append((feeds, run(feeds)))
        return seen[-1][1]

    outputs = asked(Signature(inputs, given), ask).outputs
    first, again = seen[0][1], run(seen[0][0])
    if any(not np.array_equal(first[n], again[n]) for n in first):
        kind = type(module.model).__name__
        raise SourceError(f"{kind} does not answer twice the same: it draws random numbers")
    return outputs


def _labels(config: Any) -> tuple[str, ...]:
    names = config.id2label or {}
    return tuple(str(names.get(i, f"LABEL_{i}")) for i in range(len(names)))
