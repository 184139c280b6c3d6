"""Real TensorRT-for-RTX engines, built without a GPU: every stage, and every way to fail."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from thfm_ros.engine.backends.tensorrt_executor import deserialise
from thfm_ros.engine.build_trt import build_bundle, check_network, compile_onnx, workspace_limit
from thfm_ros.engine.bundle import open_bundle
from thfm_ros.engine.device import current_gpu, platform_name
from thfm_ros.engine.load import load_runtime
from thfm_ros.engine.manifest import EngineInfo, Manifest, write_manifest
from thfm_ros.engine.stage_table import WHOLE_CLIP
from thfm_ros.errors import UserError

trt = pytest.importorskip("tensorrt_rtx")
TARGETS = ("SM89", "SM120")


@pytest.fixture(scope="module")
def built(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with engines for two kinds of GPU."""
    root = Path(shutil.copytree(exported, tmp_path_factory.mktemp("rtx") / "bundle"))
    manifest = open_bundle(root)
    info = EngineInfo("tensorrt_rtx", "", TARGETS, "", 1024)
    stages = {n: dataclasses.replace(s, precision="fp32") for n, s in manifest.stages.items()}
    write_manifest(dataclasses.replace(manifest, backends=("tensorrt",), engine=info, stages=stages))
    build_bundle(root)
    return root


@pytest.fixture
def engines(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "engines"))


def test_every_stage_compiles(built: Path) -> None:
    manifest = open_bundle(built)
    assert set(manifest.stages) == {
        *WHOLE_CLIP,
        "transform_x4",
        "decode_x4",
        "windows",
        "windows_x2",
        "windows_x4",
    }
    assert manifest.engine == EngineInfo("tensorrt_rtx", trt.__version__, TARGETS, platform_name(), 1024)
    for stage in manifest.stages.values():
        assert stage.engine is not None
        assert manifest.path(stage.engine).read_bytes()[:4] == b"vtrt"  # the plan's own magic
        assert stage.engine.size > 10_000


def test_building_again_keeps_what_is_there(engines: Path) -> None:
    told: list[str] = []
    before = open_bundle(engines)
    assert build_bundle(engines, report=told.append) == before
    assert told == []


def test_an_interrupted_build_goes_on(engines: Path) -> None:
    manifest = open_bundle(engines)
    stages = {**manifest.stages, "decode_x4": dataclasses.replace(manifest.stages["decode_x4"], engine=None)}
    write_manifest(dataclasses.replace(manifest, stages=stages))
    told: list[str] = []
    after = build_bundle(engines, report=told.append)
    assert told == ["build decode_x4"]
    assert after.stages["encode"].engine == manifest.stages["encode"].engine


def test_engines_of_another_version_are_all_rebuilt(engines: Path) -> None:
    manifest = open_bundle(engines)
    assert manifest.engine is not None
    few = {n: manifest.stages[n] for n in ("encode", "transform", "decode")}  # all that one dense task needs
    old = dataclasses.replace(manifest.engine, version="1.0")
    write_manifest(dataclasses.replace(manifest, stages=few, engine=old, tasks=("foreground",)))
    told: list[str] = []
    assert build_bundle(engines, report=told.append).engine == manifest.engine
    assert told == ["build encode", "build transform", "build decode"]


def test_a_tampered_or_truncated_engine_is_refused(engines: Path) -> None:
    file = engines / "decode.engine"
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(UserError, match=r"decode.engine was changed: expected sha256"):
        load_runtime(engines)
    file.write_bytes(data[:-1])
    with pytest.raises(UserError, match=r"decode.engine is truncated: expected \d+ bytes"):
        load_runtime(engines)


@pytest.mark.skipif(current_gpu() is not None, reason="this machine has a GPU")
def test_without_a_gpu_it_says_so(built: Path) -> None:
    with pytest.raises(UserError, match="no backend works here: tensorrt: tensorrt_rtx needs an NVIDIA GPU"):
        load_runtime(built)


def test_full_tensorrt_is_asked_for_by_name(bundle: Path) -> None:
    if shutil.which("trtexec"):
        pytest.skip("full TensorRT is installed")
    manifest = open_bundle(bundle)
    write_manifest(dataclasses.replace(manifest, engine=EngineInfo("tensorrt", "", (), "")))
    with pytest.raises(UserError, match=r"expected the package tensorrt, found .*JetPack"):
        build_bundle(bundle)
    write_manifest(manifest)
    with pytest.raises(UserError, match="expected a bundle for TensorRT, found one for openvino, onnxruntime"):
        build_bundle(bundle)


@pytest.mark.parametrize("target", ["SM87", "SM90", "SM110", "SM999"])
def test_targets_that_rtx_does_not_have(exported: Path, target: str) -> None:
    with pytest.raises(UserError, match=rf"expected compute capabilities of SM75, .*, found {target}"):
        compile_onnx(exported / "encode.onnx", "tensorrt_rtx", ("SM89", target))


def test_a_file_that_is_no_onnx(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"nothing")
    with pytest.raises(UserError, match="tensorrt_rtx cannot parse"):
        compile_onnx(tmp_path / "x.onnx", "tensorrt_rtx", TARGETS)


def test_an_unknown_operator(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph([helper.make_node("Levitate", ["x"], ["y"], domain="nowhere")], "g", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("nowhere", 1)]), tmp_path / "x.onnx")
    with pytest.raises(UserError, match=r"cannot parse .*Levitate"):
        compile_onnx(tmp_path / "x.onnx", "tensorrt_rtx", TARGETS)


def test_failures_of_the_child_process_are_told(engines: Path) -> None:
    """The ONNX file says one shape, the manifest another: the parsed network decides."""
    manifest = open_bundle(engines)
    spec = manifest.stages["decode"].inputs[0]
    answer = {
        "inputs": [dataclasses.asdict(dataclasses.replace(spec, dtype="float16"))],
        "outputs": [dataclasses.asdict(t) for t in manifest.stages["decode"].outputs],
    }
    with pytest.raises(UserError, match=r"inputs of the parsed network decode: expected .*float32.*found .*float16"):
        check_network(manifest, "decode", json.loads(json.dumps(answer)))


def test_workspace_leaves_room() -> None:
    assert workspace_limit("decode", 100 << 20, 4096, 16000) == 4096
    assert workspace_limit("decode", 100 << 20, 4096, 2000) == 2000 - 320 - 512
    assert workspace_limit("decode", 100 << 20, None, 2832) == 1000
    with pytest.raises(UserError, match="expected 896 MB of free memory, found 700: close programs or add swap"):
        workspace_limit("decode", 100 << 20, 4096, 700)


class FakeRuntime:
    """Stands for trt.Runtime, whose engines only a GPU can make: answers as the documentation says it does."""

    def __init__(self, manifest: Manifest, valid: bool = True, loads: bool = True, shift: int = 0) -> None:
        stage = manifest.stages["decode"]
        tensors = [*stage.inputs, *stage.outputs]
        self.valid, self.loads = valid, loads
        self.engine = SimpleNamespace(
            num_io_tensors=len(tensors),
            get_tensor_name=lambda i: tensors[i].name,
            get_tensor_shape=lambda n: next(tuple(d + shift for d in t.shape) for t in tensors if t.name == n),
            get_tensor_dtype=lambda n: trt.DataType.FLOAT,
        )

    def get_engine_validity(self, data: bytes) -> tuple[object, int]:
        return (trt.EngineValidity.VALID if self.valid else trt.EngineValidity.INVALID), 4

    def deserialize_cuda_engine(self, data: bytes) -> object:
        return self.engine if self.loads else None


def test_what_deserialising_checks(engines: Path) -> None:
    manifest = open_bundle(engines)
    fake = FakeRuntime(manifest)
    assert deserialise(trt, fake, manifest, "decode") is fake.engine
    with pytest.raises(UserError, match=r"expected a valid engine, found an invalid one \(diagnostics 4\); rebuild"):
        deserialise(trt, FakeRuntime(manifest, valid=False), manifest, "decode")
    with pytest.raises(UserError, match=r"expected an engine that tensorrt_rtx .* loads, found none; rebuild"):
        deserialise(trt, FakeRuntime(manifest, loads=False), manifest, "decode")
    with pytest.raises(UserError, match=r"inputs and outputs: expected .*found .*rebuild"):
        deserialise(trt, FakeRuntime(manifest, shift=1), manifest, "decode")
    (engines / "decode.engine").write_bytes(b"changed after the bundle was opened")
    with pytest.raises(UserError, match="was changed: expected sha256"):
        deserialise(trt, fake, manifest, "decode")
