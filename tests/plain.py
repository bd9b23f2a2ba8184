"""Models as bundles in float32, with nothing in them but their graphs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Exported:
    """A bundle in fp32 and the folder that it was made of."""

    bundle: Path
    source: Path


def export_plain(source: Path, target: Path, task: str | None = None) -> Exported:
    """A bundle with the fp32 graphs of a folder: no proof, no quantization."""
    from edgetfm.bundle import BundleWriter
    from edgetfm.export import to_onnx
    from edgetfm.export.adapter import adapt
    from edgetfm.export.streamed import to_onnx_streamed
    from edgetfm.graphs import write_graph
    from edgetfm.manifest import Component, Manifest, Variant, file_of
    from edgetfm.sources import open_source

    opened = open_source(source, task=task)
    make = adapt if opened.route == "adapter" else to_onnx
    components = {}
    with BundleWriter(target) as writer:
        for name, data in opened.assets.items():
            writer.write(name, data)
        for stage in opened.stages:
            signature = opened.signatures[stage.name]
            specs = (signature.inputs, signature.outputs)
            if opened.streams:
                skeleton, weights = opened.streamed()
                graph = to_onnx_streamed(stage.part(skeleton), weights, *specs)
            else:
                graph = make(stage.part(opened.module()), *specs)
            variant = Variant(*write_graph(graph, writer, file_of(stage.name)))
            components[stage.name] = Component(signature, {"fp32": variant})
        writer.commit(
            Manifest(
                task=opened.task,
                family=opened.family.name,
                route=opened.route,
                default="fp32",
                components=components,
                source=opened.provenance,
                preprocessing=opened.preprocessing,
                generation=opened.generation,
                labels=opened.labels,
            )
        )
    return Exported(target, source)
