"""The command line: one file a command, each imported when it is called."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

import edgetfm
from edgetfm.cli._output import BROKEN_PIPE, Output

VERBS = {
    "export": "Turn a PyTorch model into a proven bundle, quantized if asked.",
    "quantize": "Make a smaller, faster variant of a bundle and prove it.",
    "verify": "Check that a bundle still answers as PyTorch did.",
    "compare": "Put two bundles side by side: size, speed, answers.",
    "run": "Answer for texts, images or sounds, from a bundle; generate text.",
    "chat": "Chat with a bundle.",
    "bench": "Measure latency, load time and memory of a bundle.",
    "inspect": "Say what a bundle or a checkpoint holds.",
    "android": "Put bundles into an Android app.",
    "train": "Train a small model from a configuration.",
    "doctor": "Examine this machine: runtimes, extras, devices.",
}
"""Each command with the line `--help` says about it, so that help imports none of them."""


class Verbs(click.Group):
    """The commands by name; `edgetfm.cli.NAME` has the `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order people meet them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = import_module(f"edgetfm.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a reader of stdout that left (`| head`) is nobody's fault."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # The interpreter would flush stdout once more on its way out, and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            ctx.exit(BROKEN_PIPE)


@click.group(
    cls=Verbs,
    epilog="Exit codes: 0 done, 1 a bug, 2 bad input or usage, 3 parity or budget missed, "
    "4 device missing or fallen back, 130 interrupted.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda ctx, _, wanted: _print_version(ctx) if wanted else None,
    help="Show the version and exit.",
)
def cli() -> None:
    """Take PyTorch Transformers to the edge, and prove that they still answer the same."""


def _print_version(ctx: click.Context) -> None:
    click.echo(f"edgetfm {edgetfm.__version__}")
    ctx.exit()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Its result goes to stdout, all else to stderr."""
    _open_what_is_closed()
    _collect_seldom()
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = words[: words.index("--")] if "--" in words else words
    debug = "--debug" in options or os.environ.get("EDGETFM_DEBUG", "0") not in ("", "0")
    out = Output(as_json="--json" in options, debug=debug)
    with warnings.catch_warnings():
        if not debug and not sys.warnoptions:
            warnings.simplefilter("ignore")  # other libraries' notes to their developers
            for name, value in _QUIET.items():
                os.environ.setdefault(name, value)
        try:
            _end_as_interrupted()
            code = cli.main(words, prog_name="edgetfm", standalone_mode=False, obj=out)
        except BaseException as error:
            return out.failure(error)
    return code if isinstance(code, int) else 0


def _collect_seldom() -> None:
    """Cycles of objects are looked for less often than Python would, and not at the end.

    PyTorch and transformers make half a million objects that stay. By default they are gone
    through a thousand times while a model is read and traced, a fifth of that time, and once more
    before the process ends, which takes two seconds.
    """
    gc.set_threshold(100_000, 20, 50)
    atexit.register(gc.freeze)


def _end_as_interrupted() -> None:
    """A polite kill ends a command as Ctrl-C does: nothing half-made stays behind."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def _open_what_is_closed() -> None:
    """A standard stream the shell closed (`>&-`) is nowhere; else a file of ours would get its
    number, and what is printed would land there."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            if handle != number:
                os.dup2(handle, number)
                os.close(handle)
            stream = open(number, "w" if number else "r", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


_QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",  # ours is the only bar
}
