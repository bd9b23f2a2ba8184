"""A Hugging Face folder, checked and understood, as a source that the adapter exports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgetfm import assets
from edgetfm.files import sha256
from edgetfm.models._family import Family
from edgetfm.senses import part_of
from edgetfm.signature import BATCH, Signature, TensorSpec
from edgetfm.sources import _weights
from edgetfm.sources._source import Source
from edgetfm.sources.adapter._sense import AdapterConfig
from edgetfm.sources.adapter.encoders import load_encoder, refuse_others
from edgetfm.sources.adapter.module import Adapted, ReadOnce, answering, outputs_of
from edgetfm.sources.adapter.table import ADAPTED_TASKS, SENSE_ROWS
from edgetfm.sources.adapter.tasks import check_senses, task_of_body, task_of_head
from edgetfm.tasks import TASKS


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
    check_senses(model, chosen)
    senses = TASKS[chosen].senses
    config = AdapterConfig(str(model.config.model_type))
    for sense in senses:
        config = replace(config, **SENSE_ROWS[sense].facts(model, folder, pooling))
    inputs = tuple(
        _apart(t, sense) if TASKS[chosen].apart else t
        for sense in senses
        for t in SENSE_ROWS[sense].inputs(model, folder, config)
    )
    module = Adapted(model, chosen, pooling).eval()
    signature = Signature(inputs, outputs_of(module, inputs))
    prepared = assets.read_inputs(folder, senses, config, trust_remote_code=trust_remote_code)
    for sense in senses:
        SENSE_ROWS[sense].check(folder, prepared, part_of(signature, sense, senses))
    wanted = chosen

    def read() -> Adapted:
        loaded, _ = load_encoder(folder, wanted, trust_remote_code)
        return Adapted(loaded, wanted, pooling).eval()

    build = ReadOnce(module, read)

    return Source(
        kind="huggingface",
        name=name,
        family=Family(
            name=config.model_type,
            tasks=tuple(t for t in ADAPTED_TASKS if TASKS[t].modality == TASKS[wanted].modality),
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
        build_reference=lambda: answering(build()),
        assets={"config.json": (folder / "config.json").read_bytes(), **prepared.assets},
        preprocessing=prepared.preprocessing,
        labels=_labels(model.config) if TASKS[chosen].labelled else (),
        licence=assets.read_licence(folder),
        notes=(
            f"the graph of this {config.model_type} is made by transformers.exporters",
            *left_out,
            *prepared.notes,
        ),
        route="adapter",
    )


def _apart(spec: TensorSpec, sense: str) -> TensorSpec:
    """The input with a batch of its sense's own."""
    return replace(spec, shape=tuple(f"{sense}_{a}" if a == BATCH else a for a in spec.shape))


def _labels(config: Any) -> tuple[str, ...]:
    names = config.id2label or {}
    return tuple(str(names.get(i, f"LABEL_{i}")) for i in range(len(names)))
