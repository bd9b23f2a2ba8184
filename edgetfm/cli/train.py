"""`edgetfm train`: a small model from a configuration."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import click

from edgetfm.cli._output import Output
from edgetfm.cli._progress import progress_bar
from edgetfm.cli._verb import folder, verb


@verb()
@click.argument("config")
@folder("-o", "--output", help="The checkpoint folder to write.", required=True)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a setting of the configuration; may be repeated.",
)
@click.option("--force", is_flag=True, help="Replace a checkpoint that exists.")
@click.option("--resume", is_flag=True, help="Go on with the run in the folder that was cut off.")
def command(
    out: Output,
    config: str,
    output: Path,
    settings: tuple[str, ...],
    force: bool,
    resume: bool,
) -> None:
    """Train CONFIG, a .toml file or the name of one that ships, into a checkpoint."""
    from edgetfm.cli._table import facts_text
    from edgetfm.workflow.train import train_model

    overrides = dict(_setting(text) for text in settings)
    with progress_bar() as progress:
        result = train_model(
            config, output, overrides=overrides, force=force, resume=resume, progress=progress
        )
    data = result.to_json()
    out.result(data, lambda: facts_text(data))


def _setting(text: str) -> tuple[str, Any]:
    """KEY=VALUE with the value read as TOML, or as a string where it is none."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise click.BadParameter(
            f"'{text}' is not KEY=VALUE, for example epochs=3", param_hint="--set"
        )
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return key.strip(), value
