"""sentence-transformers folders: how modules.json makes one vector of a text. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetfm.assets import read_json, read_list
from edgetfm.errors import InputError, SourceError
from edgetfm.files import inside

_MODES = {
    "cls_token": "cls",
    "max_tokens": "max",
    "mean_tokens": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
    "weightedmean_tokens": "weightedmean",
    "lasttoken": "lasttoken",
}
"""What a pooling is called there, and in edgetfm.layers.pooling, in the order they are joined."""

ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "Sigmoid")
"""The classes of torch.nn that a dense module may end with."""

_INSTEAD = {
    "CLIPModel": "export the folder of the CLIP model itself, which takes texts and images",
    "Asym": "its texts go different ways: export the folder of one of them",
    "Router": "its texts go different ways: export the folder of one of them",
    "SpladePooling": "sparse vectors are what fill-mask gives: export its Transformer with --task",
}


@dataclass(frozen=True)
class Dense:
    """One linear layer and its activation. folder: where its weights are."""

    folder: Path
    inputs: int
    outputs: int
    bias: bool
    activation: str


@dataclass(frozen=True)
class SentenceHead:
    """What follows the transformer. place: the transformer's folder, '' for the folder itself.

    modes: poolings of edgetfm.layers.pooling, joined. steps: dense layers, and `normalize`, in
    order.
    """

    place: str
    modes: tuple[str, ...]
    steps: tuple[Dense | str, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether it is one pooling, normalized or not: what families do themselves."""
        return len(self.modes) == 1 and self.steps in ((), ("normalize",)) and self.place == ""


def read_sentence_head(folder: Path) -> SentenceHead | None:
    """The head that modules.json describes, None without one; SourceError for what is not known."""
    path = folder / "modules.json"
    if not path.is_file():
        return None
    modules = read_list(path)
    kinds = [str(m.get("type", "")).rpartition(".")[2] for m in modules]
    _check_kinds(path, kinds)
    places = [str(m.get("path", "")) for m in modules]
    steps: list[Dense | str] = []
    modes: tuple[str, ...] = ()
    for kind, place in zip(kinds, places, strict=True):
        try:
            where = inside(folder, place) if place else folder
            if kind == "Pooling":
                modes = _modes(read_json(where / "config.json", required=True), where)
            elif kind == "Dense":
                steps.append(_dense(read_json(where / "config.json", required=True), where))
        except InputError as error:
            raise SourceError(f"{path}: {error}") from error
        steps += ["normalize"] * (kind == "Normalize")
    return SentenceHead(places[0], modes, tuple(steps))


def _check_kinds(path: Path, kinds: list[str]) -> None:
    known = ("Transformer", "Pooling", "Dense", "Normalize", "Dropout")
    strange = [k for k in kinds if k not in known]
    order = kinds[:1] == ["Transformer"] and kinds[1:2] == ["Pooling"]
    if strange or not order or kinds.count("Pooling") != 1 or kinds.count("Transformer") != 1:
        hint = next((f". {_INSTEAD[k]}" for k in strange if k in _INSTEAD), "")
        raise SourceError(
            f"{path} has the modules {', '.join(kinds)}; edgetfm honours Transformer, one Pooling, "
            f"then Dense and Normalize{hint}"
        )


def _modes(config: Mapping[str, Any], where: Path) -> tuple[str, ...]:
    stem = "pooling_mode_"
    named = [k.removeprefix(stem) for k, on in config.items() if k.startswith(stem) and on is True]
    newer = config.get("pooling_mode")  # the newer form names one, or several in their order
    if isinstance(newer, (str, list, tuple)):
        short = {how: name for name, how in _MODES.items()}
        named = [short.get(str(m), str(m)) for m in ([newer] if isinstance(newer, str) else newer)]
    if not named or any(m not in _MODES for m in named):
        raise SourceError(
            f"{where / 'config.json'} pools by {' and '.join(named) or 'nothing'}; "
            f"edgetfm honours {', '.join(_MODES)}"
        )
    if config.get("include_prompt") is False:
        raise SourceError(f"{where / 'config.json'}: include_prompt false is not honoured")
    return tuple(how for name, how in _MODES.items() if name in named)


def _dense(config: Mapping[str, Any], where: Path) -> Dense:
    sizes = [config.get(key) for key in ("in_features", "out_features")]
    given = [n for n in sizes if isinstance(n, int) and n > 0]
    if len(given) < 2:
        raise SourceError(f"{where / 'config.json'}: in_features and out_features are {sizes}")
    activation = str(config.get("activation_function", "torch.nn.Tanh")).rpartition(".")[2]
    if activation not in ACTIVATIONS:
        raise SourceError(
            f"{where / 'config.json'} has the activation {activation}; edgetfm honours "
            f"{', '.join(ACTIVATIONS)}"
        )
    for key, usual in (("module_input_name", None), ("module_output_name", None)):
        if config.get(key) not in (usual, "sentence_embedding"):
            raise SourceError(f"{where / 'config.json'}: {key} is {config[key]!r}")
    inputs, outputs = given
    return Dense(where, inputs, outputs, config.get("bias") is not False, activation)
