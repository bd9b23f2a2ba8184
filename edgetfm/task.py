"""What a task is: what goes in, what comes out, and how much may be lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from edgetfm.senses import OF_MODALITY, SENSES, Modality, part_of
from edgetfm.signature import Signature, TensorSpec

Kind = Literal["embedding", "hidden", "logits", "span", "boxes", "map"]


@dataclass(frozen=True)
class Output:
    """One output of a task's graph and how two versions of it are compared.

    kind: `embedding` rows are compared by cosine; `hidden` states by cosine of each unmasked
    token; `logits` by top-1 agreement and KL; a `span` is logits over the positions of a text;
    `boxes` (center, width and height) by how far they overlap; a `map`, a number for each pixel,
    by its error beside its mean. per: what has a row of its own. of_next: a
    token's logits are of the one that follows it in the text. steps: kernel and stride of each
    convolution by which the positions became fewer than the mask has.
    """

    name: str
    kind: Kind
    per_token: bool = False
    per: Literal["item", "query", "pixel"] = "item"
    of_next: bool = False
    steps: tuple[tuple[int, int], ...] = ()

    def length(self, taken: int) -> int:
        """How many positions come of so many that were taken."""
        for kernel, stride in self.steps:
            taken = (taken - kernel) // stride + 1
        return max(0, taken)

    @property
    def class_axis(self) -> int:
        """Where a row's numbers are: of a picture's pixels behind the batch, else last."""
        return 1 if self.per == "pixel" and self.kind == "logits" else -1

    @property
    def ranks(self) -> tuple[int, ...]:
        """How many axes it may have."""
        if self.kind == "hidden" and not self.per_token:
            return (3, 4)  # 4: states on a grid, [batch, width, h, w]
        if self.kind in ("boxes", "map") or self.per_token or self.per == "query":
            return (3,)
        return (4,) if self.per == "pixel" else (2,)


@dataclass(frozen=True)
class Task:
    """One task. The default budget is about its embeddings, or about all outputs if it has none.

    generates: the graph takes what its last step kept, and gives what the next one needs. seq2seq:
    it does so about a source, which another graph reads; a text is compared as a pair then.
    apart: the senses are asked about separately, each with a batch axis of its own. Of modality
    `arrays` is a graph that nobody told us about; `on` says what its outputs are.
    """

    name: str
    modality: Modality
    outputs: tuple[Output, ...]
    budget: str
    synonyms: tuple[str, ...] = ()
    budgets: Mapping[str, str] = field(default_factory=dict)
    apart: bool = False
    generates: bool = False
    seq2seq: bool = False

    def budget_of(self, precision: str | None, labelled: bool = False) -> str:
        """The default budget of what was asked for by name; None and 'auto' name nothing.

        labelled: whether there is data to measure the task's own metric on.
        """
        if labelled and LABELLED in self.budgets:
            return self.budgets[LABELLED]
        return self.budgets.get(precision or "", self.budget)

    @property
    def labelled(self) -> bool:
        """Whether its classes have names in a model's config."""
        ends = ("-classification", "-detection", "-segmentation")
        return self.name.endswith(ends) and not self.apart

    @property
    def judged(self) -> tuple[str, ...]:
        """The outputs that a budget is about: the embeddings where the last one is one, else all.

        A task that gives hidden states and an embedding is used for the embedding.
        """
        vectors = tuple(o.name for o in self.outputs if o.kind == "embedding")
        return vectors if self.outputs and self.outputs[-1].kind == "embedding" else ()

    @property
    def senses(self) -> tuple[str, ...]:
        """What people give it, in the order of a graph's inputs; rows of edgetfm.senses."""
        return OF_MODALITY[self.modality]

    def on(self, signature: Signature, preprocessing: Mapping[str, Any]) -> Task:
        """The task of one graph: `other` takes its outputs from it, its inputs as they are made."""
        if self.name != OTHER:
            return self._of_pairs(signature)._shortened(preprocessing)
        modality = next((m for key, m in _PREPARED.items() if key in preprocessing), self.modality)
        return replace(self, modality=modality, outputs=tuple(_compared(signature)))

    def _of_pairs(self, signature: Signature) -> Task:
        """The task on a model that writes a text about what it is given, token by token."""
        if self.seq2seq or not signature.has_source:
            return self
        outputs = (replace(o, of_next=True) for o in self.outputs)
        return replace(
            self,
            outputs=tuple(outputs),
            budget="perplexity:0.05",
            budgets=WRITTEN_BUDGETS,
            generates=True,
            seq2seq=True,
        )

    def _shortened(self, preprocessing: Mapping[str, Any]) -> Task:
        """The task on a graph that takes a wave and gives frames, fewer of them."""
        found = preprocessing.get("audio", {}).get("convolutions", ())
        steps = tuple((int(kernel), int(stride)) for kernel, stride in found)
        if not steps:
            return self
        outputs = (replace(o, steps=steps) if o.per_token else o for o in self.outputs)
        return replace(self, outputs=tuple(outputs))

    def misfits(self, signature: Signature) -> list[str]:
        """What keeps a graph of this signature from doing the task."""
        problems: list[str] = []
        if self.name == OTHER:
            none = not any(_compared(signature))
            return [f"no output is float: it has {_named(signature.outputs)}"] if none else []
        for name in self.senses:
            sense, given = SENSES[name], part_of(signature, name, self.senses).inputs
            fits = given and all(len(t.shape) in sense.axes for t in given)
            if not fits or (sense.single and len(given) > 1):
                problems.append(
                    f"{self.name} takes {sense.takes}, the graph has {_named(signature.inputs)}"
                )
        ranks = {t.name: len(t.shape) for t in signature.outputs}
        problems += [
            f"{self.name} gives {output.name} with {' or '.join(map(str, output.ranks))} axes, "
            f"the graph has {_named(signature.outputs)}"
            for output in self.outputs
            if ranks.get(output.name) not in output.ranks
        ]
        return problems


LABELLED = "labelled"
"""The key of a task's budget where labelled data is given."""

WRITTEN_BUDGETS = {
    **dict.fromkeys(("int8", "int8-weight", "fp16"), "perplexity:0.01"),
    LABELLED: "perplexity:0.05,2%",
}
"""Of what the float32 model wrote itself; with labelled data the words decide."""

OTHER = "other"
"""The task of a graph that does none of the others: its float outputs are compared as they are."""

_PREPARED: dict[str, Modality] = {
    SENSES[senses[0]].prepared: modality
    for modality, senses in OF_MODALITY.items()
    if len(senses) == 1
}


def _compared(signature: Signature) -> list[Output]:
    """The float outputs of a graph; one with a vector a token leaves padding out.

    If one of them is called an embedding it comes last: the budget is about it.
    """
    outputs = list(_float_outputs(signature))
    named = [o for o in outputs if o.name.endswith(("embedding", "embeddings", "embeds"))]
    vectors = [o for o in named if not o.per_token]
    if len(vectors) != 1:
        return outputs
    others = [o for o in outputs if o is not vectors[0]]
    return [*others, replace(vectors[0], kind="embedding")]


def _float_outputs(signature: Signature) -> Iterator[Output]:
    mask = next((t.shape for t in signature.inputs if t.name == "attention_mask"), ())
    for tensor in signature.outputs:
        if tensor.dtype.startswith("float"):
            per_token = len(mask) == 2 and len(tensor.shape) > 2 and tensor.shape[:2] == mask
            yield Output(tensor.name, "hidden", per_token=per_token)


def _named(tensors: tuple[TensorSpec, ...]) -> str:
    return ", ".join(map(str, tensors)) or "none"
