"""`optimum-cli export edgetfm`: edgetfm's export in Optimum's own command line.

Installed as `optimum.commands.register.register_edgetfm`, in the namespace (PEP 420, so no
`__init__.py` beside it) where `optimum-cli` looks for other people's commands. It imports this
file whenever it starts, so nothing of edgetfm is imported before somebody asks for it.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Any

from optimum.commands.base import BaseOptimumCLICommand, CommandInfo
from optimum.commands.export.base import ExportCommand


class _Words(ArgumentParser):
    """Takes every word as it is: `edgetfm export` alone knows its options, and explains them."""

    def parse_known_args(  # type: ignore[override]  # argparse overloads it by the namespace
        self, args: Sequence[str] | None = None, namespace: Namespace | None = None
    ) -> tuple[Namespace, list[str]]:
        """All words, under the name `words`; nothing is left over."""
        taken = namespace or Namespace()
        taken.words = list(args or ())
        taken.func = self.get_default("func")
        return taken, []


class EdgetfmCommand(BaseOptimumCLICommand):  # type: ignore[misc]  # optimum has no types
    """`edgetfm export` with another name: the same options, messages and exit codes."""

    COMMAND = CommandInfo(name="edgetfm", help="Export a model to a proven edgetfm bundle.")

    @staticmethod
    def parse_args(parser: ArgumentParser) -> None:
        """Leave the words to edgetfm."""
        parser.__class__ = _Words

    def run(self) -> None:
        """Export, and end the process with edgetfm's exit code."""
        from edgetfm.cli import main

        sys.exit(main(["export", *self.args.words]))


REGISTER_COMMANDS: list[tuple[Any, Any]] = [(EdgetfmCommand, ExportCommand)]
"""What optimum-cli adds: (the command, the command that it belongs to)."""
