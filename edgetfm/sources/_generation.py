"""What a decoder's folder says about generating: special tokens, chat template, sampling."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgetfm import assets
from edgetfm.errors import SourceError, listed
from edgetfm.models._family import Family

_FILES = ("generation_config.json", "chat_template.jinja")


def generation_of(
    folder: Path, hf: Mapping[str, Any], family: Family, config: Any
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files of a decoder, and what a manifest says of how it generates; nothing of others."""
    if family.cache is None:
        return {}, {}
    files, tokens = read_generation(folder, hf)
    if family.stages:
        tokens |= read_writing(folder, hf)
    return files, {**family.cache(config), **tokens}


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


def read_writing(folder: Path, hf: Mapping[str, Any]) -> dict[str, Any]:
    """What an encoder-decoder begins with and may not write, from the same files.

    {"decoder_start": id, "forced_bos": id | None}, and where the files name them of Whisper:
    "language_tokens" and "task_tokens" {name: id}, "timestamps_begin": id, "suppress" and
    "begin_suppress": [ids]. SourceError for ids that are none.
    """
    said = {**hf, **assets.read_json(folder / "generation_config.json")}
    problems: list[str] = []

    def number(key: str, value: Any) -> int | None:
        if value is None or (isinstance(value, int) and value >= 0 and not isinstance(value, bool)):
            return value
        problems.append(f"{key} is {json.dumps(value)[:60]}, expected a token id")
        return None

    def numbers(key: str) -> list[int]:
        value = said.get(key) or []
        if not isinstance(value, list):
            problems.append(f"{key} is {json.dumps(value)[:60]}, expected token ids")
            return []
        return [n for n in (number(key, v) for v in value) if n is not None]

    def named(key: str) -> dict[str, int]:
        value = said.get(key) or {}
        if not isinstance(value, dict):
            problems.append(f"{key} is {json.dumps(value)[:60]}, expected names of token ids")
            return {}
        found = {str(name): number(key, v) for name, v in value.items()}
        return {name: n for name, n in found.items() if n is not None}

    start = number("decoder_start_token_id", said.get("decoder_start_token_id"))
    if start is None:
        start = number("bos_token_id", said.get("bos_token_id"))
    if start is None and not problems:
        problems.append("decoder_start_token_id is missing: with what does a text begin?")
    made: dict[str, Any] = {
        "decoder_start": start,
        "forced_bos": number("forced_bos_token_id", said.get("forced_bos_token_id")),
    }
    last = number("no_timestamps_token_id", said.get("no_timestamps_token_id"))
    if last is not None:
        made |= {
            "language_tokens": named("lang_to_id"),
            "task_tokens": named("task_to_id"),
            "timestamps_begin": last + 1,
            "suppress": numbers("suppress_tokens"),
            "begin_suppress": numbers("begin_suppress_tokens"),
        }
    if problems:
        raise SourceError(f"the configs in {folder} cannot be used:\n{listed(problems)}")
    return made
