"""What a decoder's folder says about generating: special tokens, chat template, sampling."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgetfm import assets
from edgetfm.errors import SourceError, listed

_FILES = ("generation_config.json", "chat_template.jinja")


def read_generation(folder: Path, hf: Mapping[str, Any]) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files for a bundle, and the special tokens: {"bos": id, "eos": [ids], "pad": id}.

    hf: the complete config; what generation_config.json says counts more. SourceError for ids
    that are none.
    """
    files = {name: (folder / name).read_bytes() for name in _FILES if (folder / name).is_file()}
    said = assets.read_json(folder / "generation_config.json")
    problems: list[str] = []

    def ids(key: str) -> list[int]:
        value = said.get(key)
        if value is None:
            value = hf.get(key)
        found = value if isinstance(value, list) else [] if value is None else [value]
        wrong = [v for v in found if isinstance(v, bool) or not isinstance(v, int) or v < 0]
        if wrong:
            problems.append(f"{key} is {json.dumps(value)[:60]}, expected token ids")
            return []
        return list(dict.fromkeys(found))

    bos, eos, pad = ids("bos_token_id"), ids("eos_token_id"), ids("pad_token_id")
    if problems:
        raise SourceError(f"the configs in {folder} cannot be used:\n{listed(problems)}")
    return files, {"bos": next(iter(bos), None), "eos": eos, "pad": next(iter(pad), None)}
