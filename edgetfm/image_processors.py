"""preprocessor_config.json of pictures: how one becomes pixel values. Needs no torch.

Processors say in many ways which sizes they make; here it is one `resize` of a few modes, those of
edgetfm.runtime.resizing. https://huggingface.co/docs/transformers/main_classes/image_processor
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgetfm.assets import Prepared, is_number, read_json
from edgetfm.errors import SourceError

FILE = "preprocessor_config.json"

_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}

FREE = (0, 0)
"""The size of pictures whose height and width depend on the picture."""


def read_image_size(folder: Path, known: Any) -> tuple[int, int]:
    """(height, width) of the pictures that preprocessor_config.json makes; FREE if they differ.

    known: the size in the model's config, for a processor that names none; 224 without either.
    """
    data = read_json(folder / FILE)
    resize, crop = _steps(data, known, folder / FILE)
    final = crop or resize.get("size")
    if final is None and resize["mode"] == "none":
        final = square(_default(known))
    if final is None or resize.get("aspect"):
        return FREE
    return final[0], final[1]


def read_image_processor(folder: Path, config: Any) -> Prepared:
    """How a picture becomes pixel values, from preprocessor_config.json.

    config: has `image_size`, FREE for pictures of any, and `channels`. Without a file: resized
    exactly, values from -1 to 1, and a note that says so.
    """
    height, width = config.image_size
    path = folder / FILE
    data = read_json(path)
    channels = config.channels
    resize, crop = _steps(data, None if config.image_size == FREE else [height, width], path)
    final = crop or (None if resize.get("aspect") else resize.get("size"))
    mean = data.get("image_mean") or [0.5] * channels
    std = data.get("image_std") or [0.5] * channels
    if not _normalizes(data):
        mean, std = [0.0] * channels, [1.0] * channels
    problems = []
    if final is not None and (height, width) not in (FREE, tuple(final)):
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
    entry: dict[str, Any] = {
        "resample": resample,
        "resize": resize,
        "crop": crop,
        "rescale": float(rescale),
        "mean": [float(x) for x in mean],
        "std": [float(x) for x in std],
        "channels": channels,
    }
    if (size := resize.get("size") or final) is not None:
        entry["size"] = size
    if data.get("do_flip_channel_order", _is(data, "MobileViT")) is True:
        entry["order"] = "bgr"
    assets = {FILE: path.read_bytes()} if path.is_file() else {}
    note = f"{folder} has no {FILE}: images are resized exactly, values go from -1 to 1"
    return Prepared(assets, {"image": entry}, () if assets else (note,))


def _is(data: Mapping[str, Any], name: str) -> bool:
    """Whether the processor's class, or that of old files, is called so."""
    kind = data.get("image_processor_type") or data.get("feature_extractor_type") or ""
    return str(kind).startswith(name)


def _normalizes(data: Mapping[str, Any]) -> bool:
    """Whether values are normalized: MobileViT's never, GLPN's only if the file says so."""
    said = data.get("do_normalize", not _is(data, "GLPN"))
    return said is True and not _is(data, "MobileViT")


def _default(known: Any) -> Any:
    return known if known is not None else 224


def square(size: Any) -> list[int]:
    """[height, width] of a number, a pair or an object with height and width."""
    if isinstance(size, Mapping):
        size = [size.get("height"), size.get("width")]
    sides = list(size) if isinstance(size, list | tuple) else [size, size]
    if len(sides) != 2 or not all(isinstance(s, int) and s > 0 for s in sides):
        raise SourceError(f"{size!r} is not the size of an image")
    return [int(s) for s in sides]


# --- resize and crop ----------------------------------------------------------------------------


def _steps(
    data: Mapping[str, Any], known: Any, path: Path
) -> tuple[dict[str, Any], list[int] | None]:
    """The resize, and the size that is cropped to."""
    size = data.get("size")
    if size is None:
        size = data.get("crop_size") if data.get("do_center_crop") else None
        size = square(_default(known)) if size is None else size
    if not data.get("do_resize", True):
        resize: dict[str, Any] = {"mode": "none"}
    elif _is(data, "GLPN"):
        return {"mode": "multiple", "multiple": _whole(data, "size_divisor", 32, path)}, None
    else:
        resize = _resize(data, size, path)
    crop = square(data.get("crop_size", _default(known))) if data.get("do_center_crop") else None
    if resize["mode"] == "shortest_edge" and "crop_pct" in data:
        return _cropped_share(int(resize["edge"]), data["crop_pct"], path)
    return resize, crop


def _resize(data: Mapping[str, Any], size: Any, path: Path) -> dict[str, Any]:
    if isinstance(size, int) and any(_is(data, name) for name in _BY_EDGE):
        size = {"shortest_edge": size}
        size |= {"longest_edge": data["max_size"]} if "max_size" in data else {}
    keys = set(size) if isinstance(size, Mapping) else set()
    if keys in ({"shortest_edge"}, {"shortest_edge", "longest_edge"}):
        resize: dict[str, Any] = {
            "mode": "shortest_edge",
            "edge": _whole(size, "shortest_edge", None, path),
        }
        if "longest_edge" in keys:
            resize["longest"] = _whole(size, "longest_edge", None, path)
        if _is(data, "Yolos"):
            resize["multiple"] = _YOLOS_PATCH
        return resize
    resize = {"mode": "exact", "size": square(size)}
    multiple = _whole(data, "ensure_multiple_of", 1, path)
    if data.get("keep_aspect_ratio"):
        return {"mode": "fit", "size": resize["size"], "multiple": multiple, "aspect": True}
    if multiple > 1:
        resize["size"] = [round(side / multiple) * multiple for side in resize["size"]]
    return resize


_BY_EDGE = ("CLIP", "ChineseCLIP", "Detr", "ConditionalDetr", "Yolos", "Bit", "MobileViT")
"""Processors for which a size that is one number is the shorter edge's; of others, both sides'."""

_YOLOS_PATCH = 16
"""Pixels: whatever its patches are, YOLOS' processor makes sides that are multiples of these."""


def _whole(data: Mapping[str, Any], name: str, default: int | None, path: Path) -> int:
    value = data.get(name, default)
    if not isinstance(value, int) or value < 1:
        raise SourceError(f"{path}: {name.replace('_', ' ')} is {value!r}, expected 1 or more")
    return value


_WHOLE_FROM = 384
"""Pixels from which ConvNeXt's processor resizes to a square and crops nothing."""


def _cropped_share(edge: int, share: Any, path: Path) -> tuple[dict[str, Any], list[int] | None]:
    """ConvNeXt's resize and crop: the middle `share` of each side is what the model sees."""
    if edge >= _WHOLE_FROM:
        return {"mode": "exact", "size": [edge, edge]}, None
    if not is_number(share) or not 0 < share <= 1:
        raise SourceError(f"{path}: crop_pct is {share!r}, expected a share of 1")
    return {"mode": "shortest_edge", "edge": int(edge / share)}, [edge, edge]
