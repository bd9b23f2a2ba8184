"""`edgetfm android`: bundles put into an Android app."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgetfm.cli._output import Output
from edgetfm.cli._verb import verb

if TYPE_CHECKING:
    from edgetfm.workflow.android import Placed


@verb()
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="An Android project, its assets folder, or a project to be made.",
)
@click.option("--force", is_flag=True, help="Replace bundles of the same name.")
def command(out: Output, bundles: tuple[Path, ...], output: Path, force: bool) -> None:
    """Put BUNDLES into an Android app's assets, after checking that the app can run them."""
    from edgetfm.workflow.android import place_bundles

    placed = place_bundles(bundles, output, force=force)
    out.result(_data(placed), lambda: _text(placed))


def _data(placed: Placed) -> dict[str, Any]:
    return {
        "assets": str(placed.assets),
        "bundles": placed.bundles,
        "bytes": placed.bytes,
        "warnings": list(placed.warnings),
    }


def _text(placed: Placed) -> str:
    lines = [f"{placed.assets}/bundles/{n}: {b / 1e6:.1f} MB" for n, b in placed.bundles.items()]
    return "\n".join([*lines, *(f"warning: {w}" for w in placed.warnings)])
