"""A graph run in pieces over many items: each piece once, so that only one is in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgetfm.graphs import refer_graph, save_graph
from edgetfm.quantize.items import Item
from edgetfm.runtime.session import Session, Settings, make_session, uncopied, without_spinning
from edgetfm.signature import Feeds

LARGE_PIECE = 1 << 28
"""Bytes of a piece's weights from which they are not copied: memory holds other things, too."""


class Walk:
    """Runs the first piece for all items, then the second, and so on.

    Between pieces the tensors that later ones need (a hidden state, a mask) wait on disk. The
    graph ends with the last tensor that is wanted.
    """

    def __init__(
        self,
        model: ir.Model,
        items: Sequence[Item],
        wanted: Sequence[Sequence[str]],
        also: Sequence[str] = (),
        also_of: Item | None = None,
        settings: Settings | None = None,
    ) -> None:
        """`wanted`: the tensors of each piece. `also`: others, each given with its own piece, and
        of the item `also_of` alone: all of them would take more memory than what is wanted.

        settings: of the sessions, as in a manifest.
        """
        self._settings = without_spinning(settings)
        self._model = model
        self._items = items
        self._values = _by_name(model)
        self._place = {id(node): place for place, node in enumerate(model.graph)}
        places = [[self._where(name) for name in names] for names in wanted]
        extra = [self._where(name) for name in also]
        self._ends = [max(inner, default=0) + 1 for inner in places]
        for number in range(1, len(self._ends)):  # a piece may have been overtaken
            self._ends[number] = max(self._ends[number], self._ends[number - 1])
        if self._ends:
            self._ends[-1] = max([self._ends[-1], *(place + 1 for place in extra)])
        self._wanted = [list(names) for names in wanted]
        self._also: list[list[str]] = [[] for _ in wanted]
        self._also_of = also_of
        for name, place in zip(also, extra, strict=True):
            number = next(i for i, end in enumerate(self._ends) if place < end)
            if name not in self._wanted[number]:
                self._also[number].append(name)
        self._carried: list[str] = []
        self._sessions = 0

    def __enter__(self) -> Walk:
        self._folder = tempfile.TemporaryDirectory(prefix="edgetfm-")
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def piece(self, number: int) -> Iterator[tuple[Item, Feeds]]:
        """Run piece `number`; each item with the tensors wanted of this piece."""
        live = self._live(self._ends[number]) if number + 1 < len(self._ends) else []
        made = set(self._carried) | {v.name for v in self._model.graph.inputs}
        wanted = self._wanted[number]
        outputs = [n for n in dict.fromkeys([*wanted, *live]) if n not in made]
        others = self._others(number, made)
        session = self._session(outputs) if outputs else None
        for place, item in enumerate(self._items):
            state = item.feeds | self._load(place)
            if session is not None:
                state |= session.run(_known(session, state), outputs)
            self._save(place, {name: state[name] for name in live})
            given = {name: state[name] for name in wanted}
            yield item, given | (others if item is self._also_of else {})
        del session
        self._forget()
        self._note_types(live, state)
        self._carried = live

    def _others(self, number: int, made: set[str | None]) -> Feeds:
        """What only one item is asked for; a session keeps the memory that its largest run took."""
        names = self._also[number]
        place = next((p for p, item in enumerate(self._items) if item is self._also_of), None)
        if not names or place is None:
            return {}
        state = self._items[place].feeds | self._load(place)
        if outputs := [name for name in names if name not in made]:
            session = self._session(outputs)
            state |= session.run(_known(session, state), outputs)
            del session
            self._forget()
        return {name: state[name] for name in names}

    def _where(self, name: str) -> int:
        producer = self._values[name].producer()
        return -1 if producer is None else self._place[id(producer)]

    def _live(self, end: int) -> list[str]:
        """The tensors made before place `end` that a node behind it reads, in graph order."""
        behind = self._ends[-1]
        return [
            str(value.name)
            for node in list(self._model.graph)[:end]
            for value in node.outputs
            if any(end <= self._place.get(id(user), end) < behind for user in value.consumers())
        ]

    def _session(self, outputs: Sequence[str]) -> Session:
        inputs = [*self._model.graph.inputs, *(self._values[name] for name in self._carried)]
        ends = [self._values[name] for name in outputs]
        for value in ends:
            value.type = value.type or ir.TensorType(ir.DataType.FLOAT)
        graph = ir.convenience.extract(self._model.graph, inputs, ends)
        self._sessions += 1  # the weights of one that is still open are mapped
        path = Path(self._folder.name) / f"piece_{self._sessions}.onnx"
        functions = list(self._model.functions.values())
        piece = ir.Model(graph, ir_version=self._model.ir_version, functions=functions)
        weights_in, size = refer_graph(piece, path) or (None, 0)
        if weights_in is None:
            save_graph(piece, path, external_over=0)  # weights in a file of their own are mapped
            size = sum(v.const_value.nbytes for v in graph.initializers.values() if v.const_value)
        # Not optimized: what onnxruntime fuses, and so the last bits, would depend on the tensors
        # that are asked for, and a kept decision would differ from one made anew.
        settings = uncopied(self._settings) if size >= LARGE_PIECE else self._settings
        return make_session(path, settings=settings, optimize=False, weights_in=weights_in)

    def _forget(self) -> None:
        """Remove the weights of pieces that are done with: all of them are as large as the model.

        Where what is mapped cannot be removed, it goes with the folder.
        """
        for file in Path(self._folder.name).glob("piece_*"):
            with suppress(OSError):
                file.unlink()

    def _note_types(self, names: Sequence[str], state: Feeds) -> None:
        """What was computed tells the types that the next piece's inputs have."""
        for name in names:
            self._values[name].type = ir.TensorType(ir.DataType.from_numpy(state[name].dtype))

    def _file(self, place: int) -> Path:
        return Path(self._folder.name) / f"{place}.npz"

    def _load(self, place: int) -> Feeds:
        if not self._carried:
            return {}
        with np.load(self._file(place), allow_pickle=False) as archive:
            return {name: archive[f"arr_{i}"] for i, name in enumerate(self._carried)}

    def _save(self, place: int, tensors: Feeds) -> None:
        if tensors:
            np.savez(self._file(place), *tensors.values())


def _by_name(model: ir.Model) -> dict[str, ir.Value]:
    values = {str(v.name): v for v in model.graph.inputs}
    values |= {str(v.name): v for node in model.graph for v in node.outputs if v.name}
    return values


def _known(session: Session, state: Feeds) -> Feeds:
    """What the session takes of what there is."""
    names = {*(t.name for t in session.signature.inputs), *session.optional_inputs}
    return {name: array for name, array in state.items() if name in names}
