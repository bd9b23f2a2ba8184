"""`edgetfm inspect`: what is in a bundle or a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgetfm.cli._output import Output
from edgetfm.cli._progress import progress_bar
from edgetfm.cli._verb import folder, verb


@verb()
@click.argument("path", type=click.Path(path_type=Path))
@folder("--operators", help="List what a bundle needs of a reduced onnxruntime in this file.")
def command(out: Output, path: Path, operators: Path | None) -> None:
    """Say what PATH holds: a bundle, a checkpoint, or a Hugging Face folder."""
    from edgetfm.cli._text import bundle_text, model_text
    from edgetfm.manifest import MANIFEST
    from edgetfm.workflow.inspect import inspect_bundle

    if operators is not None:
        from edgetfm.workflow.operators import write_operators

        write_operators(path, operators)
    if (path / MANIFEST).exists() or not (path / "config.json").is_file():
        data = inspect_bundle(path)
        out.result(data, lambda: bundle_text(data))
    else:
        with progress_bar() as progress:
            progress("reading the model", 0, 0)
            data = _model_facts(path)
        out.result(data, lambda: model_text(data))


def _model_facts(path: Path) -> dict[str, Any]:
    """What a model that can be exported is; its weights are looked at, not loaded."""
    from dataclasses import asdict

    from edgetfm.sources import open_source

    source = open_source(path)
    signature = {
        "inputs": source.family.inputs(source.config, source.task),
        "outputs": source.family.outputs(source.config, source.task),
    }
    return {
        "path": str(path),
        "kind": source.kind,
        "family": source.family.name,
        "task": source.task,
        "config": asdict(source.config),
        "signature": {way: [t.to_json() for t in tensors] for way, tensors in signature.items()},
        "labels": list(source.labels),
        "licence": source.licence,
        "sha256": source.provenance.get("sha256"),
    }
