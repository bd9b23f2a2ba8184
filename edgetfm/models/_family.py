"""What a family is: a config, a module, its signature, and how others' weights become its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgetfm.errors import SourceError
from edgetfm.models._lazy import LazyWeight
from edgetfm.signature import TensorSpec

if TYPE_CHECKING:
    import torch

    # Lazy weights too: they have the methods that the rules use.
    Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Rename:
    """Rename every weight that matches `pattern`, as `re.sub` does."""

    pattern: str
    to: str

    def __call__(self, weights: Weights) -> Weights:
        return {re.sub(self.pattern, self.to, name): w for name, w in weights.items()}


@dataclass(frozen=True)
class Drop:
    """Leave out the weights that match: buffers, and heads the task has no use for."""

    pattern: str

    def __call__(self, weights: Weights) -> Weights:
        return {name: w for name, w in weights.items() if not re.search(self.pattern, name)}


@dataclass(frozen=True)
class Transpose:
    """Swap the two axes of every weight that matches."""

    pattern: str

    def __call__(self, weights: Weights) -> Weights:
        return {
            n: w.t() if w.ndim == 2 and re.search(self.pattern, n) else w
            for n, w in weights.items()
        }


@dataclass(frozen=True)
class SwapAxes:
    """Swap two axes of every weight that matches."""

    pattern: str
    one: int
    other: int

    def __call__(self, weights: Weights) -> Weights:
        return {
            name: w.transpose(self.one, self.other)
            if w.ndim > max(self.one, self.other) and re.search(self.pattern, name)
            else w
            for name, w in weights.items()
        }


@dataclass(frozen=True)
class Pack:
    """Concatenate along the first axis the weights `{prefix}{part}.*` to `{prefix}{to}.*`.

    `parts` are in order, for example ("q", "k", "v") -> "qkv". Parts that do not go together,
    or are not floats, stay apart: no module has a place for them.
    """

    parts: tuple[str, ...]
    to: str

    def __call__(self, weights: Weights) -> Weights:
        first = re.compile(rf"^(.*\.|){re.escape(self.parts[0])}\.(weight|bias)$")
        packed: Weights = {}
        taken: set[str] = set()
        for name in weights:
            if match := first.match(name):
                prefix, kind = match.groups()
                sources = [f"{prefix}{part}.{kind}" for part in self.parts]
                found = [weights[s] for s in sources if s in weights]
                fit = all(
                    w.is_floating_point() and w.ndim and w.shape[1:] == found[0].shape[1:]
                    for w in found
                )
                if len(found) == len(sources) and fit:
                    packed[f"{prefix}{self.to}.{kind}"] = _joined(found)
                    taken.update(sources)
        return {n: w for n, w in weights.items() if n not in taken} | packed


def _joined(parts: list[Any]) -> Any:
    if isinstance(parts[0], LazyWeight):
        return LazyWeight.joined(parts)
    import torch

    return torch.cat(parts)


@dataclass(frozen=True)
class AddOne:
    """Add 1 to every weight that matches, in float32: some norms are stored as what they add."""

    pattern: str

    def __call__(self, weights: Weights) -> Weights:
        return {n: w.float() + 1.0 if re.search(self.pattern, n) else w for n, w in weights.items()}


@dataclass(frozen=True)
class RowsFrom:
    """Leave out the first rows of every weight that matches: a table that begins later."""

    pattern: str
    first: int

    def __call__(self, weights: Weights) -> Weights:
        return {n: w[self.first :] if re.search(self.pattern, n) else w for n, w in weights.items()}


@dataclass(frozen=True)
class Unfold:
    """Make one matrix [kernel * inputs, outputs] of every convolution over time that matches."""

    pattern: str

    def __call__(self, weights: Weights) -> Weights:
        return {
            n: w.permute(2, 1, 0).reshape(-1, w.shape[0])
            if w.ndim == 3 and re.search(self.pattern, n)
            else w
            for n, w in weights.items()
        }


@dataclass(frozen=True)
class ZeroBias:
    """Give a bias of zeros to every weight that matches and has none.

    `pattern` matches the name without its `.weight`: parts that are packed have all one or none.
    """

    pattern: str

    def __call__(self, weights: Weights) -> Weights:
        lacking = {
            f"{n.removesuffix('.weight')}.bias": w.new_zeros(w.shape[0])
            for n, w in weights.items()
            if n.endswith(".weight") and re.search(self.pattern, n.removesuffix(".weight"))
        }
        return {**lacking, **weights}


@dataclass(frozen=True)
class When:
    """Apply `rules` to a checkpoint that has a weight that matches: one name has two meanings."""

    pattern: str
    rules: tuple[WeightRule, ...]

    def __call__(self, weights: Weights) -> Weights:
        if any(re.search(self.pattern, name) for name in weights):
            for rule in self.rules:
                weights = rule(weights)
        return weights


WeightRule = (
    Rename | Drop | Transpose | SwapAxes | Pack | AddOne | RowsFrom | Unfold | ZeroBias | When
)


@dataclass(frozen=True)
class FromHF:
    """How a Hugging Face checkpoint becomes one of a family.

    `config` maps the dict of config.json and a task to the family's config and raises a
    SourceError for what the family cannot honour. `weights` are applied in order. `elsewhere`
    matches the weights, in the family's names, that belong to heads of other tasks: those may be
    left over; any other weight without a place is an error.
    """

    model_types: tuple[str, ...]
    config: Callable[[Mapping[str, Any], str], Any]
    weights: tuple[WeightRule, ...]
    elsewhere: str = r"^$"

    def rewrite(self, weights: Weights) -> Weights:
        """The family's names and layouts for a checkpoint's weights."""
        for rule in self.weights:
            weights = rule(weights)
        return weights


@dataclass(frozen=True)
class Stage:
    """One graph of a family that is several: the component of a bundle it becomes.

    name: the component and the stem of its file, as Optimum calls it ("encoder_model",
    "decoder_model_merged"). part: the piece of the built module whose `forward` is this graph: it
    takes the inputs by name, in order, and returns a dict of the outputs.
    """

    name: str
    part: Callable[[Any], torch.nn.Module]
    inputs: Callable[[Any, str], tuple[TensorSpec, ...]]
    outputs: Callable[[Any, str], tuple[TensorSpec, ...]]


@dataclass(frozen=True)
class Family:
    """One architecture.

    build: (config, task name) -> a torch.nn.Module in eval mode whose `forward` takes the inputs
    of `inputs(config, task)` by name, in that order, and returns a dict of the task's outputs.
    config: a frozen dataclass whose fields are JSON values. cache: of decoders, what of a config
    the manifest of a bundle says: the context, the window, and the sizes of the cache. to_hf: the
    config.json of a model that was trained here, for programs that know only Hugging Face's.
    stages: of encoder-decoders, the graphs it is exported as; `build`, `inputs` and `outputs` are
    the whole, from both texts to the logits. None: one graph, 'model'.
    """

    name: str
    tasks: tuple[str, ...]
    config: type[Any]
    build: Callable[[Any, str], torch.nn.Module]
    inputs: Callable[[Any, str], tuple[TensorSpec, ...]]
    outputs: Callable[[Any, str], tuple[TensorSpec, ...]]
    from_hf: FromHF | None = None
    cache: Callable[[Any], dict[str, Any]] | None = None
    to_hf: Callable[[Any, str], dict[str, Any]] | None = None
    stages: tuple[Stage, ...] = ()

    @property
    def streams(self) -> bool:
        """Whether its graph is traced without weights, which go from file to file one by one."""
        return self.cache is not None and not self.stages

    def check_task(self, task: str) -> None:
        """Raise a SourceError if the family has no such head."""
        if task not in self.tasks:
            raise SourceError(
                f"{self.name} has no task '{task}'; it has {', '.join(sorted(self.tasks))}"
            )
