"""The head of a sentence-transformers folder, in the graph: poolings joined, dense, normalized."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from edgetfm.errors import SourceError
from edgetfm.files import sha256
from edgetfm.layers.pooling import normalize, pool
from edgetfm.sentence import Dense, SentenceHead
from edgetfm.signature import Feeds, TensorSpec
from edgetfm.sources import _weights
from edgetfm.sources._source import Oracle, Source


class Sentence(nn.Module):
    """A text model whose `sentence_embedding` is what its head makes of `last_hidden_state`."""

    def __init__(self, model: nn.Module, head: SentenceHead, inputs: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.head = model, SentenceSteps(head)
        if hasattr(model, "config"):
            self.config = model.config  # the exporter asks for it
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD

        def forward(**given: Tensor) -> dict[str, Tensor]:
            hidden = self.model(**given)["last_hidden_state"]
            vector = self.head(hidden, given["attention_mask"])
            return {"last_hidden_state": hidden, "sentence_embedding": vector}

        # torch.export binds inputs by the signature of forward.
        forward.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(name, kind) for name in inputs]
        )
        self.forward = forward


class SentenceSteps(nn.Module):
    """[batch, sequence, width] and its mask -> [batch, width of the last step]."""

    def __init__(self, head: SentenceHead) -> None:
        super().__init__()
        self.modes, self.steps = head.modes, head.steps
        self.dense = nn.ModuleList(_linear(s) for s in head.steps if isinstance(s, Dense))

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """The steps in their order."""
        vector = torch.cat([pool(hidden, attention_mask, how) for how in self.modes], dim=-1)
        layers = iter(self.dense)
        for step in self.steps:
            if isinstance(step, Dense):
                activation: nn.Module = getattr(nn, step.activation)()
                vector = activation(next(layers)(vector))
            else:
                vector = normalize(vector)
        return vector


def _linear(step: Dense) -> nn.Linear:
    layer = nn.Linear(step.inputs, step.outputs, bias=step.bias)
    weights = _weights.open_weights(_weights.weight_files(step.folder))
    _weights.check_finite(weights)
    given = {name.removeprefix("linear."): w.float() for name, w in weights.items()}
    wanted = {name: w.shape for name, w in layer.state_dict().items()}
    if {name: w.shape for name, w in given.items()} != wanted:
        raise SourceError(
            f"the weights in {step.folder} are "
            f"{', '.join(f'{n} {list(w.shape)}' for n, w in given.items())}, its config says "
            f"{', '.join(f'{n} {list(s)}' for n, s in wanted.items())}"
        )
    layer.load_state_dict(given)
    return layer.requires_grad_(False).eval()


def with_head(opened: Source, head: SentenceHead) -> Source:
    """A text model with the head of its sentence-transformers folder.

    Raises SourceError if the head does not fit the model's width.
    """
    hidden = next(t for t in opened.signature.outputs if t.name == "last_hidden_state")
    width = _width(head, hidden)
    outputs = (hidden, TensorSpec("sentence_embedding", "float32", (hidden.shape[0], width)))
    inputs = tuple(t.name for t in opened.signature.inputs)
    files = [f for s in head.steps if isinstance(s, Dense) for f in _files(s.folder)]

    def module() -> nn.Module:
        return Sentence(opened.module(), head, inputs).eval()

    return replace(
        opened,
        family=replace(opened.family, outputs=lambda _config, _task: outputs),
        provenance={
            **opened.provenance,
            "sha256": {
                **opened.provenance["sha256"],
                **{f"{f.parent.name}/{f.name}": sha256(f) for f in files},
            },
        },
        build_module=module,
        build_reference=lambda: _oracle(opened, head),
    )


def _files(folder: Path) -> list[Path]:
    return [folder / "config.json", *_weights.weight_files(folder)]


def _width(head: SentenceHead, hidden: TensorSpec) -> int:
    """The width of the vector; each dense layer must take what the step before it gives."""
    last = hidden.shape[-1]
    width = len(head.modes) * (last if isinstance(last, int) else 0)
    for step in head.steps:
        if isinstance(step, Dense):
            if step.inputs != width:
                raise SourceError(
                    f"{step.folder / 'config.json'} takes {step.inputs} numbers, what comes before "
                    f"it gives {width}"
                )
            width = step.outputs
    return width


def _oracle(opened: Source, head: SentenceHead) -> Oracle:
    """The model's own oracle, and the steps in eager PyTorch behind it."""
    ask, steps = opened.reference(), SentenceSteps(head).eval()

    def run(feeds: Feeds) -> Feeds:
        answer = ask(feeds)
        with torch.inference_mode():
            hidden = torch.from_numpy(answer["last_hidden_state"])
            vector = steps(hidden, torch.from_numpy(feeds["attention_mask"]))
        return {**answer, "sentence_embedding": vector.numpy()}

    return run
