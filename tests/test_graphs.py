"""Graphs on disk: external weights that stay on disk, and files that are what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgetfm import graphs
from edgetfm.bundle import BundleWriter
from edgetfm.errors import BundleError, InputError, OutputError
from edgetfm.graphs import read_graph, refer_graph, save_graph, write_graph
from edgetfm.runtime.session import make_session


@pytest.fixture
def many_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights go to their own file from 4 KB on."""
    monkeypatch.setattr(graphs, "EXTERNAL_OVER", 4096)


def chain(count: int = 3, rows: int = 40) -> ir.Model:
    """x @ w0 @ w1 ..., each w [rows, rows]."""
    rng = np.random.default_rng(0)
    x = ir.val("x", ir.DataType.FLOAT, ["n", rows])
    last, nodes, constants = x, [], []
    for i in range(count):
        array = rng.normal(size=(rows, rows)).astype(np.float32)
        weight = ir.val(f"w{i}", const_value=ir.tensor(array, name=f"w{i}"))
        node = ir.node("MatMul", [last, weight], name=f"m{i}")
        constants.append(weight)
        nodes.append(node)
        last = node.outputs[0]
    last.name, last.dtype, last.shape = "y", ir.DataType.FLOAT, ir.Shape(["n", rows])
    graph = ir.Graph(
        [x], [last], nodes=nodes, initializers=constants, opset_imports={"": 17}, name="model"
    )
    return ir.Model(graph, ir_version=8)


def weights_of(model: ir.Model) -> dict[str, np.ndarray]:
    found = {}
    for name, value in model.graph.initializers.items():
        assert value.const_value is not None
        found[name] = value.const_value.numpy()
    return found


def test_a_graph_refers_to_weights_where_they_lie(tmp_path: Path) -> None:
    (here := tmp_path / "here").mkdir()
    (there := tmp_path / "there").mkdir()
    save_graph(chain(), here / "model.onnx", external_over=0)
    model = read_graph(here / "model.onnx")
    assert refer_graph(model, there / "same.onnx") == (here, 3 * 40 * 40 * 4)
    assert [path.name for path in there.iterdir()] == ["same.onnx"]
    feeds = {"x": np.ones((2, 40), np.float32)}
    same = make_session(there / "same.onnx", weights_in=here).run(feeds)["y"]
    np.testing.assert_array_equal(same, make_session(here / "model.onnx").run(feeds)["y"])
    with pytest.raises(BundleError):
        make_session(there / "same.onnx")
    save_graph(model, there / "model.onnx", external_over=0)
    moved = read_graph(there / "model.onnx").graph.initializers["w2"].const_value
    for other in (moved, ir.tensor(np.ones((40, 40), np.float32), name="w2")):
        model.graph.initializers["w2"].const_value = other
        assert refer_graph(model, tmp_path / "none.onnx") is None
    assert not (tmp_path / "none.onnx").exists()


def test_few_weights_stay_inside(tmp_path: Path) -> None:
    save_graph(chain(), tmp_path / "model.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    assert weights_of(read_graph(tmp_path / "model.onnx")).keys() == {"w0", "w1", "w2"}


@pytest.mark.usefixtures("many_weights")
def test_many_weights_go_beside_aligned_and_come_back_unread(tmp_path: Path) -> None:
    model = chain()
    before = weights_of(model)
    save_graph(model, tmp_path / "model.onnx")
    assert {p.name for p in tmp_path.iterdir()} == {"model.onnx", "model.onnx_data"}
    onnx.checker.check_model(str(tmp_path / "model.onnx"), full_check=True)
    back = read_graph(tmp_path / "model.onnx")
    for value in back.graph.initializers.values():
        tensor = value.const_value
        assert isinstance(tensor, ir.ExternalTensor)
        assert tensor.location == "model.onnx_data"
        assert (tensor.offset or 0) % 64 == 0
    after = weights_of(back)
    assert all(np.array_equal(after[n], before[n]) for n in before)


@pytest.mark.usefixtures("many_weights")
def test_writing_leaves_the_model_as_it_was_even_when_it_fails(tmp_path: Path) -> None:
    model = chain()
    tensors = [v.const_value for v in model.graph.initializers.values()]
    save_graph(model, tmp_path / "model.onnx")
    (tmp_path / "taken").mkdir()
    with pytest.raises((OSError, OutputError)):
        save_graph(model, tmp_path / "taken")
    assert [v.const_value for v in model.graph.initializers.values()] == tensors


@pytest.mark.usefixtures("many_weights")
def test_a_graph_in_a_bundle_is_hashed_and_written_the_same_each_time(tmp_path: Path) -> None:
    hashes = []
    for _ in range(2):
        with BundleWriter(tmp_path / "bundle") as writer:
            assert write_graph(chain(), writer, "onnx/model.onnx") == (
                "onnx/model.onnx",
                "onnx/model.onnx_data",
            )
            hashes.append({name: e.sha256 for name, e in writer.entries.items()})
    assert hashes[0] == hashes[1]
    assert set(hashes[0]) == {"onnx/model.onnx", "onnx/model.onnx_data"}


@pytest.mark.usefixtures("many_weights")
def test_a_graph_whose_weights_are_on_disk_is_written_again(tmp_path: Path) -> None:
    save_graph(chain(), tmp_path / "one" / "model.onnx")
    save_graph(read_graph(tmp_path / "one" / "model.onnx"), tmp_path / "two" / "model.onnx")
    for name in ("model.onnx", "model.onnx_data"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_few_weights_that_came_from_a_file_of_their_own_move_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A smaller variant of a large graph must not go on pointing at the large one's weights."""
    with monkeypatch.context() as patch:
        patch.setattr(graphs, "EXTERNAL_OVER", 4096)
        save_graph(chain(), tmp_path / "large.onnx")
    read = read_graph(tmp_path / "large.onnx")
    before = weights_of(read)
    save_graph(read, tmp_path / "elsewhere" / "small.onnx")
    after = weights_of(read_graph(tmp_path / "elsewhere" / "small.onnx"))
    assert all(np.array_equal(after[n], before[n]) for n in before)
    assert all(
        isinstance(v.const_value, ir.ExternalTensor) for v in read.graph.initializers.values()
    )


@pytest.mark.parametrize("over", [0, None], ids=["outside", "inside"])
def test_weights_of_a_branch_come_along(tmp_path: Path, over: int | None) -> None:
    large = np.arange(1024, dtype=np.float32)
    (tmp_path / "weights").write_bytes(large.tobytes())

    def branch(name: str, count: int) -> onnx.GraphProto:
        weight = onnx.numpy_helper.from_array(large[:count], f"{name}_w")
        onnx.external_data_helper.set_external_data(weight, "weights", 0, 4 * count)
        weight.ClearField("raw_data")
        given = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        nodes = [onnx.helper.make_node("Identity", [weight.name], [name])]
        return onnx.helper.make_graph(nodes, name, [], [given], [weight])

    chooses = onnx.helper.make_node(
        "If", ["c"], ["y"], then_branch=branch("then", 1024), else_branch=branch("else", 4)
    )
    graph = onnx.helper.make_graph(
        [chooses],
        "chooses",
        [onnx.helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, [])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n"])],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    (tmp_path / "given.onnx").write_bytes(model.SerializeToString())
    written = tmp_path / "elsewhere" / "written.onnx"
    save_graph(read_graph(tmp_path / "given.onnx"), written, external_over=over)
    session = make_session(written)
    for chosen, count in ((True, 1024), (False, 4)):
        np.testing.assert_array_equal(session.run({"c": np.array(chosen)})["y"], large[:count])


@pytest.mark.parametrize("location", ["/etc/passwd", "../model.onnx_data", "a/../../b", "link"])
@pytest.mark.usefixtures("many_weights")
def test_weights_outside_the_folder_are_refused(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "graph"
    save_graph(chain(), folder / "model.onnx")
    outside = tmp_path / "outside"
    (folder / "model.onnx_data").rename(outside)
    (folder / "link").symlink_to(outside)
    proto = onnx.load(folder / "model.onnx", load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    onnx.save(proto, folder / "model.onnx")
    with pytest.raises(InputError, match="leaves its folder"):
        read_graph(folder / "model.onnx")


@pytest.mark.usefixtures("many_weights")
def test_weights_that_are_missing_or_cut_off_are_refused(tmp_path: Path) -> None:
    save_graph(chain(), tmp_path / "model.onnx")
    data = tmp_path / "model.onnx_data"
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(InputError, match="ends before byte"):
        read_graph(tmp_path / "model.onnx")
    data.unlink()
    with pytest.raises(InputError, match="is missing"):
        read_graph(tmp_path / "model.onnx")


@pytest.mark.parametrize("data", [b"", b"not onnx", b"\x08\x08\x12\xff\xff", b"{}" * 500])
def test_what_is_no_graph_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(data)
    with pytest.raises(InputError):
        read_graph(tmp_path / "model.onnx")
    with pytest.raises(InputError, match="no graph"):
        read_graph(tmp_path / "absent.onnx")
