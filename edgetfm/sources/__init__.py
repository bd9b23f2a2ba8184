"""Where a model comes from: a Hugging Face folder or hub id, a function, or our own training."""

from __future__ import annotations

import os
from pathlib import Path

from edgetfm.errors import MissingExtra, SourceError
from edgetfm.users_code import names_function

try:
    import safetensors  # noqa: F401
    import torch  # noqa: F401
except ImportError as error:
    raise MissingExtra("export", "reading PyTorch models") from error

from edgetfm.sources._source import Source as Source
from edgetfm.sources._source import eager as eager


def open_source(
    spec: str | os.PathLike[str],
    *,
    task: str | None = None,
    inputs: str | None = None,
    trust_remote_code: bool = False,
    route: str | None = None,
) -> Source:
    """The model at a folder or hub id, or the one that module:function returns, checked.

    `task` overrides what its config says. `inputs` says what a function's module takes.
    `trust_remote_code` lets transformers run code that a repository brings. `route` is `native` or
    `adapter`; None takes a family of ours where one has the model type. Raises SourceError, with
    every problem found, for anything unusable.
    """
    from edgetfm.sources._gguf import is_gguf
    from edgetfm.sources.checkpoint import is_checkpoint, open_checkpoint
    from edgetfm.sources.ctranslate2 import is_ctranslate2, open_ctranslate2
    from edgetfm.sources.huggingface import open_huggingface

    folder = Path(spec)
    if names_function(spec) and not folder.exists():
        if route not in (None, "module"):
            raise SourceError(f"{spec} returns a module: leave out --route {route}")
        from edgetfm.sources.module import open_module

        return open_module(str(spec), task, inputs)
    if inputs is not None:
        raise SourceError(f"{spec} is no module:function: leave out --inputs {inputs}")
    if is_gguf(folder):
        from edgetfm.sources.gguf import open_gguf_source

        return open_gguf_source(folder, task, route=route)
    if is_checkpoint(folder):
        if route not in (None, "native"):
            raise SourceError(f"{folder} is a checkpoint of edgetfm: it has the native route only")
        return open_checkpoint(folder, task)
    if is_ctranslate2(folder):
        return open_ctranslate2(folder, task, route=route)
    return open_huggingface(spec, task, trust_remote_code=trust_remote_code, route=route)
