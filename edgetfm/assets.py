"""What stands beside the weights: tokenizer, image processor, pooling, licence. Needs no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from edgetfm.errors import InputError, MissingExtra, SourceError
from edgetfm.files import inside

_TOKENIZER_FILES = ("tokenizer_config.json", "special_tokens_map.json")
_VOCABULARIES = ("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model")


@dataclass(frozen=True)
class Prepared:
    """How inputs are made: files for the bundle, a dict for the manifest, notes for the user."""

    assets: dict[str, bytes] = field(default_factory=dict)
    preprocessing: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pooling:
    """How sentence-transformers makes one vector of a text."""

    how: str = "mean"
    normalize: bool = False


def read_json(path: Path, *, required: bool = False) -> dict[str, Any]:
    """A JSON object from a file, {} if it is absent and may be."""
    if not path.is_file():
        if required:
            raise SourceError(
                f"{path.parent} has no {path.name}: expected a Hugging Face model folder "
                "(config.json and model.safetensors) or a checkpoint of edgetfm train"
            )
        return {}
    data = _parse(path)
    if not isinstance(data, dict):
        raise SourceError(f"{path} holds a {type(data).__name__}, expected an object")
    return data


def _parse(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise SourceError(f"{path} is not JSON: {error}") from error


HEADS = {
    "ForMaskedLM": "fill-mask",
    "ForCausalLM": "text-generation",
    "ForPreTraining": "fill-mask",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForImageClassification": "image-classification",
    "ForImageClassificationWithTeacher": "image-classification",
}
"""The end of an architecture's name -> the task it does."""


def read_head(config: Mapping[str, Any]) -> str:
    """The head that a config's architecture names, such as `ForMaskedLM`; '' for a bare model."""
    architectures = config.get("architectures") or [""]
    name = str(architectures[0]) if isinstance(architectures, list) else ""
    match = re.search(r"For[A-Z]\w*$", name)
    return match.group() if match else ""


# --- sentence-transformers ----------------------------------------------------------------------

_MODES = {"mean_tokens": "mean", "cls_token": "cls", "max_tokens": "max"}
"""What a pooling is called there, and in edgetfm.layers.pooling."""


def read_pooling(folder: Path) -> Pooling:
    """The pooling that modules.json asks for; mean, not normalized, without one."""
    path = folder / "modules.json"
    if not path.is_file():
        return Pooling()
    modules = _parse(path)
    if not isinstance(modules, list) or not all(isinstance(m, dict) for m in modules):
        raise SourceError(f"{path} is not a list of modules")
    kinds = [str(m.get("type", "")).rpartition(".")[2] for m in modules]
    strange = [k for k in kinds if k not in ("Transformer", "Pooling", "Normalize", "Dropout")]
    if strange or kinds.count("Pooling") != 1 or kinds[0] != "Transformer":
        raise SourceError(
            f"{path} has the modules {', '.join(kinds)}; edgetfm honours Transformer, one Pooling "
            "and Normalize"
        )
    at = str(modules[kinds.index("Pooling")].get("path", ""))
    try:
        config = read_json(inside(folder, f"{at}/config.json"), required=True)
    except InputError as error:
        raise SourceError(f"{path}: {error}") from error
    return Pooling(_pooling_mode(config, folder / at), "Normalize" in kinds)


def _pooling_mode(config: Mapping[str, Any], where: Path) -> str:
    stem = "pooling_mode_"
    modes = [k.removeprefix(stem) for k, on in config.items() if k.startswith(stem) and on is True]
    if isinstance(config.get("pooling_mode"), str):  # the newer form names one
        modes = [config["pooling_mode"]]
    how = [_MODES.get(m, m) for m in modes]
    if len(how) != 1 or how[0] not in _MODES.values():
        raise SourceError(
            f"{where / 'config.json'} pools by {' and '.join(modes) or 'nothing'}; "
            f"edgetfm honours one of {', '.join(_MODES)}"
        )
    if config.get("include_prompt") is False:
        raise SourceError(f"{where / 'config.json'}: include_prompt false is not honoured")
    return how[0]


# --- text ---------------------------------------------------------------------------------------


def read_tokenizer(
    folder: Path, *, longest: int, vocabulary: int, trust_remote_code: bool = False
) -> Prepared:
    """The tokenizer as tokenizer.json, converted from older files if need be.

    `longest` is the most tokens the model takes, `vocabulary` how many it embeds.
    """
    if not any((folder / n).is_file() for n in ("tokenizer.json", *_VOCABULARIES)):
        return Prepared(
            notes=("there is no tokenizer: the bundle takes token ids only",),
        )
    text = _tokenizer_json(folder, trust_remote_code)
    config = read_json(folder / "tokenizer_config.json")
    sentence = read_json(folder / "sentence_bert_config.json")
    tokenizer = _parse_tokenizer(text, folder)
    _check_ids(tokenizer, vocabulary, folder)
    pad = _content(config.get("pad_token")) or _content(
        read_json(folder / "special_tokens_map.json").get("pad_token")
    )
    candidates = [pad] if pad else ["[PAD]", "<pad>"]
    known = [(t, tokenizer.token_to_id(t)) for t in candidates]
    token, number = next(((t, n) for t, n in known if n is not None), (candidates[0], 0))
    limits = (config.get("model_max_length"), sentence.get("max_seq_length"), longest)
    entry: dict[str, Any] = {
        "max_length": min(int(x) for x in limits if _is_number(x) and 0 < x < 1e9),
        "pad_token_id": number,
        "pad_token": token,
    }
    if sentence.get("do_lower_case") is True:
        entry["lowercase"] = True
    assets = {"tokenizer.json": text.encode()}
    for name in _TOKENIZER_FILES:
        if (folder / name).is_file():
            read_json(folder / name)
            assets[name] = (folder / name).read_bytes()
    return Prepared(assets, {"tokenizer": entry})


def _content(token: Any) -> str | None:
    """A special token is written as a string, or as an object with its content."""
    value = token.get("content") if isinstance(token, dict) else token
    return value if isinstance(value, str) else None


def _tokenizer_json(folder: Path, trust_remote_code: bool) -> str:
    path = folder / "tokenizer.json"
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise SourceError(f"{path} cannot be read: {error}") from error
    try:
        from transformers import AutoTokenizer

        from edgetfm.sources._reference import quiet_transformers
    except ImportError as error:
        raise MissingExtra("export", f"{folder} has no tokenizer.json: making one") from error
    options: dict[str, Any] = {"trust_remote_code": True} if trust_remote_code else {}
    with quiet_transformers():
        try:
            slow = AutoTokenizer.from_pretrained(folder, local_files_only=True, **options)
            return str(slow.backend_tokenizer.to_str())
        except Exception as error:  # transformers raises whatever a file makes it raise
            raise SourceError(
                f"the tokenizer in {folder} cannot be converted to tokenizer.json: {error}"
            ) from error


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _parse_tokenizer(text: str, folder: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # the Rust library raises bare Exception
        raise SourceError(f"{folder / 'tokenizer.json'} is not a tokenizer: {error}") from error


def _check_ids(tokenizer: Any, vocabulary: int, folder: Path) -> None:
    """Every id has an embedding: one beyond them ends a run, on another runtime it reads junk."""
    beyond = sorted((n, t) for t, n in tokenizer.get_vocab().items() if n >= vocabulary)
    if beyond:
        number, token = beyond[-1]
        raise SourceError(
            f"{folder / 'tokenizer.json'} has {len(beyond)} tokens without an embedding, the last "
            f"is {token!r} with id {number}: the model embeds {vocabulary}. Use the model's own "
            "tokenizer, or resize_token_embeddings of the model"
        )


# --- images -------------------------------------------------------------------------------------

_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}


def read_image_size(folder: Path, known: Any) -> tuple[int, int]:
    """(height, width) of the pictures that preprocessor_config.json makes.

    known: the size in the model's config, for a processor that names none; 224 without either.
    """
    data = read_json(folder / "preprocessor_config.json")
    size = data.get("crop_size") if data.get("do_center_crop") else data.get("size")
    if isinstance(size, dict) and set(size) == {"shortest_edge"} and "crop_pct" in data:
        size = size["shortest_edge"]
    if size is None or (isinstance(size, dict) and not {"height", "width"} <= set(size)):
        size = known if known is not None else 224
    height, width = _square(list(size) if isinstance(size, tuple) else size)
    return height, width


def read_image_processor(folder: Path, config: Any) -> Prepared:
    """How a picture becomes pixel values, from preprocessor_config.json.

    Without one: resized exactly, values from -1 to 1, and a note that says so.
    """
    height, width = config.image_size
    path = folder / "preprocessor_config.json"
    data = read_json(path)
    size = data.get("size", {"height": height, "width": width})
    crop = _square(data.get("crop_size", [height, width])) if data.get("do_center_crop") else None
    resize = _resize(size, path) if data.get("do_resize", True) else {"mode": "none"}
    if resize["mode"] == "shortest_edge" and "crop_pct" in data:
        resize, crop = _cropped_share(int(resize["edge"]), data["crop_pct"], path)
    target = resize.get("size", [height, width])
    final = crop or target
    channels = config.channels
    mean = data.get("image_mean") or [0.5] * channels
    std = data.get("image_std") or [0.5] * channels
    if not data.get("do_normalize", True):
        mean, std = [0.0] * channels, [1.0] * channels
    problems = []
    if final != [height, width]:
        problems.append(f"{path} makes images of {final}, the model takes {[height, width]}")
    resample = _RESAMPLE.get(data.get("resample", 2))
    if resample is None:
        problems.append(f"{path}: resample {data.get('resample')!r} is not honoured")
    for name, values in (("image_mean", mean), ("image_std", std)):
        if not isinstance(values, list) or len(values) != channels:
            problems.append(f"{path}: {name} is {values!r}, expected {channels} numbers")
    if problems:
        raise SourceError("\n".join(problems))
    rescale = data.get("rescale_factor", 1 / 255) if data.get("do_rescale", True) else 1.0
    entry = {
        "size": target,
        "resample": resample,
        "resize": resize,
        "crop": crop,
        "rescale": float(rescale),
        "mean": [float(x) for x in mean],
        "std": [float(x) for x in std],
        "channels": channels,
    }
    assets = {path.name: path.read_bytes()} if path.is_file() else {}
    note = f"{folder} has no {path.name}: images are resized exactly, values go from -1 to 1"
    return Prepared(assets, {"image": entry}, () if assets else (note,))


def _square(size: Any) -> list[int]:
    """[height, width] of a number, a pair or an object with height and width."""
    if isinstance(size, dict):
        size = [size.get("height"), size.get("width")]
    sides = size if isinstance(size, list) else [size, size]
    if len(sides) != 2 or not all(isinstance(s, int) and s > 0 for s in sides):
        raise SourceError(f"{size!r} is not the size of an image")
    return [int(s) for s in sides]


def _resize(size: Any, path: Path) -> dict[str, Any]:
    if isinstance(size, dict) and set(size) == {"shortest_edge"}:
        edge = size["shortest_edge"]
        if not isinstance(edge, int) or edge < 1:
            raise SourceError(f"{path}: the shortest edge is {edge!r}")
        return {"mode": "shortest_edge", "edge": edge}
    return {"mode": "exact", "size": _square(size)}


_WHOLE_FROM = 384
"""Pixels from which ConvNeXt's processor resizes to a square and crops nothing."""


def _cropped_share(edge: int, share: Any, path: Path) -> tuple[dict[str, Any], list[int] | None]:
    """ConvNeXt's resize and crop: the middle `share` of each side is what the model sees."""
    if edge >= _WHOLE_FROM:
        return {"mode": "exact", "size": [edge, edge]}, None
    if not _is_number(share) or not 0 < share <= 1:
        raise SourceError(f"{path}: crop_pct is {share!r}, expected a share of 1")
    return {"mode": "shortest_edge", "edge": int(edge / share)}, [edge, edge]


# --- all senses ---------------------------------------------------------------------------------

_READERS: dict[str, Callable[[Path, Any, bool], Prepared]] = {
    "text": lambda folder, config, trust: read_tokenizer(
        folder, longest=config.longest, vocabulary=config.vocabulary, trust_remote_code=trust
    ),
    "image": lambda folder, config, _trust: read_image_processor(folder, config),
}
"""Sense -> how its inputs are made, by the files in a folder and the model's config."""


def read_inputs(
    folder: Path, senses: Sequence[str], config: Any, *, trust_remote_code: bool = False
) -> Prepared:
    """How a model's inputs are made: its tokenizer, its image processor, or several of them.

    config: has `longest` and `vocabulary` for texts, `image_size` and `channels` for images.
    """
    parts = [_READERS[sense](folder, config, trust_remote_code) for sense in senses]
    return Prepared(
        {name: data for part in parts for name, data in part.assets.items()},
        {key: entry for part in parts for key, entry in part.preprocessing.items()},
        tuple(note for part in parts for note in part.notes),
    )


# --- licence ------------------------------------------------------------------------------------


def read_licence(folder: Path) -> str | None:
    """The licence that a model card's header names."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    head = card.read_text(encoding="utf-8", errors="replace")[:20_000]
    block = re.match(r"---\s*\n(.*?)\n---", head, re.DOTALL)
    found = (
        re.search(r"^license:\s*[\"']?([\w.+-]+)", block.group(1), re.MULTILINE) if block else None
    )
    return found.group(1) if found else None
