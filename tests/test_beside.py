"""What goes on beside other work ends with it, however that ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgetfm import export_model
from edgetfm.beside import Beside, Unwanted, still_wanted
from edgetfm.proof import on_disk, side_by_side
from edgetfm.search import float_graph


def threads() -> list[str]:
    """The threads of work beside other work."""
    return [t.name for t in threading.enumerate() if t.name.startswith("beside")]


def test_work_ends_at_its_next_step_when_the_block_beside_it_fails(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    begun, ended = threading.Event(), threading.Event()

    def without_end(_: int) -> None:
        try:
            while True:
                on_disk({"y": np.zeros(1)})
                begun.set()
        finally:
            ended.set()

    def interrupted(_: int) -> None:
        assert begun.wait(10)
        assert threads()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        side_by_side(tmp_path / "model.onnx", interrupted, without_end)
    assert ended.is_set()
    assert not threads()
    assert not getattr(caught.value, "__notes__", [])


def test_two_do_what_is_left_and_nothing_more_where_one_failed(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    met, done = threading.Barrier(2), list[int]()

    def work(number: int) -> Callable[[int], int]:
        def do(threads: int) -> int:
            if number < 2:
                met.wait(10)  # the first two are done at the same time
            if number == 4:
                raise IndexError("theirs")
            time.sleep(0.001)
            done.append(number)
            return number + threads

        return do

    works = [work(number) for number in range(4)]
    assert side_by_side(tmp_path / "model.onnx", *works) == [1, 2, 3, 4]
    done.clear()
    with pytest.raises(IndexError, match="theirs"):
        side_by_side(tmp_path / "model.onnx", work(4), *[work(2)] * 1000)
    assert len(done) < 1000


def test_neither_error_of_two_is_lost() -> None:
    def fails() -> None:
        raise ValueError("theirs")

    def both() -> None:
        with Beside(fails):
            raise KeyError("ours")

    def theirs() -> None:
        with Beside(fails) as beside:
            beside.result()

    with pytest.raises(KeyError, match="ours") as first:
        both()
    assert first.value.__notes__ == ["what went on beside it failed as well: ValueError('theirs')"]
    with pytest.raises(ValueError, match="theirs") as second:
        theirs()
    assert not hasattr(second.value, "__notes__")


def test_only_work_beside_others_can_be_unwanted() -> None:
    still_wanted()
    may_look = threading.Event()

    def looks() -> None:
        may_look.wait(10)
        still_wanted()

    beside = Beside(looks)
    threading.Timer(0.05, may_look.set).start()
    beside.stop()
    with pytest.raises(Unwanted):
        beside.result()
    still_wanted()


@pytest.mark.slow
def test_an_interrupted_export_asks_pytorch_nothing_more_and_the_next_is_whole(
    tiny_decoder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(float_graph, "BESIDE", 0)
    source = tiny_decoder("llama", tmp_path / "source")

    def interrupt(what: str, done: int, total: int) -> None:
        if what.startswith("comparing the fp32 graph"):
            assert threads(), "PyTorch is being asked"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_model(source, tmp_path / "bundle", progress=interrupt)
    assert not threads()
    assert not (tmp_path / "bundle").exists()
    assert export_model(source, tmp_path / "bundle").ledger.passed
