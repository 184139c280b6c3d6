"""TensorRT's backend and builder against the real bindings' classes and signatures, on a CUDA driver without a GPU."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda_driver import Driver
from fake_tensorrt import FakeTensorRT
from tensorrt_surface import VERSIONS, surface
from toy_network import SHAPE, WINDOW, toy_bundle, toy_stages

from thfm_ros.engine import build_trt
from thfm_ros.engine.backends.tensorrt_backend import TensorRT
from thfm_ros.engine.build_trt import compile_onnx
from thfm_ros.engine.bundle import open_bundle
from thfm_ros.engine.device import current_gpu
from thfm_ros.engine.golden import golden_inputs
from thfm_ros.engine.load import load_runtime
from thfm_ros.engine.manifest import EngineInfo, Manifest, Stage
from thfm_ros.engine.runtime import StageRuntime
from thfm_ros.errors import UserError
from thfm_ros.tasks import TASKS

DENSE = ("scene_depth", "scene_normals", "foreground", "dense_pose")
RGB_BYTES = 5 * 32 * 48 * 3


@pytest.fixture(scope="session")
def surfaces() -> Callable[[str], dict[str, Any]]:
    known: dict[str, dict[str, Any]] = {}

    def get(version: str) -> dict[str, Any]:
        if version not in known:
            known[version] = surface(version)
        return known[version]

    return get


@pytest.fixture
def fake(
    request: pytest.FixtureRequest,
    surfaces: Callable[[str], dict[str, Any]],
    driver: Driver,
    monkeypatch: pytest.MonkeyPatch,
) -> FakeTensorRT:
    """Of the bindings that the test asks for; else of those where the most has changed."""
    version = getattr(request, "param", "10.13")
    flavor = "tensorrt_rtx" if version == "rtx" else "tensorrt"
    stages = toy_stages()
    scratch = {name: 1000 * (1 + index) for index, name in enumerate(stages)}
    module = FakeTensorRT(surfaces(version), flavor, driver, stages, scratch)
    monkeypatch.setitem(sys.modules, flavor, module)
    return module


everywhere = pytest.mark.parametrize("fake", list(VERSIONS), indirect=True)


@pytest.fixture
def engines(fake: FakeTensorRT, tmp_path: Path) -> Path:
    gpu = current_gpu()
    assert gpu is not None
    return toy_bundle(tmp_path / "engines", fake.__name__, fake.__version__, gpu.capability)


@pytest.fixture
def runtime(engines: Path) -> TensorRT:
    opened = load_runtime(engines, check="never")
    assert isinstance(opened, TensorRT)
    return opened


class Reference(StageRuntime):
    """The same network without TensorRT."""

    def __init__(self, runtime: TensorRT) -> None:
        super().__init__(runtime.manifest, runtime.prompts, {})
        self.stages = toy_stages()

    def compute(self, stage: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        made = self.stages[stage](list(inputs.values()))
        return {t.name: x for t, x in zip(self.stages[stage].outputs, made, strict=True)}


@pytest.fixture
def reference(runtime: TensorRT) -> Reference:
    return Reference(runtime)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, SHAPE, np.uint8)


@everywhere
def test_passes_equal_the_network(runtime: TensorRT, reference: Reference) -> None:
    """One after the other, with one task and four: nothing of the pass before is left in a buffer."""
    for seed, tasks in enumerate([DENSE, ("keypoints_3d", "foreground"), (*DENSE, "keypoints_2d")]):
        expected, found = (r.predict(picture(seed), tasks, {"foreground": 3}) for r in (reference, runtime))
        assert tuple(found.dense) == tuple(expected.dense)
        for task, rgb in expected.dense.items():
            np.testing.assert_array_equal(found.dense[task], rgb)
        assert (found.keypoints is None) == (expected.keypoints is None)
        if expected.keypoints is not None:
            for name in ("xy", "xyz", "visibility"):
                ours, theirs = (getattr(x.keypoints, name) for x in (found, expected))
                np.testing.assert_array_equal(ours, theirs)
        assert all(ms > 0 for ms in found.timings_ms.values())
    runtime.close()


def test_windows_around_people_equal_the_network(runtime: TensorRT, reference: Reference) -> None:
    """Three of them, in batches of two and one."""
    assert runtime.manifest.windows == WINDOW[::-1]
    frames = np.random.default_rng(0).integers(0, 256, (3, SHAPE[0], *WINDOW, 3), np.uint8)
    ours, theirs = (r.predict_windows(frames, ["keypoints_3d"]) for r in (runtime, reference))
    assert len(ours) == 3
    for found, expected in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(found.xyz, expected.xyz)
        np.testing.assert_array_equal(found.visibility, expected.visibility)


@everywhere
def test_the_golden_check_runs_on_engines(engines: Path) -> None:
    runtime = load_runtime(engines, check="always")
    assert (runtime.manifest.backend, runtime.refused) == ("tensorrt", [])


def test_a_pass_sends_frames_and_fetches_what_is_wanted(runtime: TensorRT, driver: Driver) -> None:
    tasks = (*DENSE, "keypoints_2d")
    for seed in range(2):
        runtime.predict(picture(seed), tasks)
    before = (driver.bytes_up, driver.bytes_down, driver.waits, driver.pinned)
    found = runtime.predict(picture(2), tasks, dict.fromkeys(DENSE[1:], 4))
    up, down, waits = (a - b for a, b in zip((driver.bytes_up, driver.bytes_down, driver.waits), before, strict=False))
    assert up == RGB_BYTES  # no prompt
    frames = {task: len(rgb) for task, rgb in found.dense.items()}
    assert frames == {"scene_depth": 5, "scene_normals": 1, "foreground": 1, "dense_pose": 1}
    keypoints = sum(4 * int(np.prod(t.shape)) for t in runtime.manifest.stages["keypoints"].outputs)
    assert down == 4 * RGB_BYTES // 5 * sum(frames.values()) + keypoints
    assert waits == 1  # at the end


@everywhere
def test_a_stage_is_timed_without_its_copies(runtime: TensorRT, driver: Driver) -> None:
    """By the GPU's clock, from inputs that lie there to outputs that stay there; a pass is not disturbed."""
    prompts = runtime.prompts
    for name, stage in runtime.manifest.stages.items():
        before = driver.bytes_down
        assert runtime.stage_ms(name, golden_inputs(name, stage.inputs, prompts)) > 0
        assert driver.bytes_down == before
    reference = Reference(runtime)
    found, expected = (r.predict(picture(1), DENSE).dense["foreground"] for r in (runtime, reference))
    np.testing.assert_array_equal(found, expected)


def test_results_last_and_their_memory_is_used_again(runtime: TensorRT, driver: Driver) -> None:
    found = [runtime.predict(picture(seed), DENSE).dense["scene_depth"] for seed in (1, 2)]
    kept = [x.copy() for x in found]
    runtime.predict(picture(3), DENSE)
    for now, then in zip(found, kept, strict=True):
        np.testing.assert_array_equal(now, then)
    pinned = driver.pinned
    del found
    for seed in range(5):
        runtime.predict(picture(seed), DENSE)
    assert driver.pinned == pinned


@everywhere
def test_stages_are_replayed_as_graphs(runtime: TensorRT, fake: FakeTensorRT, driver: Driver) -> None:
    for seed in range(3):
        runtime.predict(picture(seed), ("foreground", "keypoints_3d"))
    # RTX captures by itself; of full TensorRT the second and third pass replay four stages.
    assert driver.launches == (0 if fake.__name__ == "tensorrt_rtx" else 8)


@pytest.mark.parametrize("function", ["cuStreamBeginCapture_v2", "cuGraphInstantiateWithFlags"])
def test_without_a_graph_a_stage_runs_all_the_same(
    function: str, runtime: TensorRT, reference: Reference, driver: Driver, caplog: pytest.LogCaptureFixture
) -> None:
    driver.refuse(function, 901)
    for seed in range(3):
        found = runtime.predict(picture(seed), ["foreground"]).dense["foreground"]
        np.testing.assert_array_equal(found, reference.predict(picture(seed), ["foreground"]).dense["foreground"])
    assert driver.launches == 4  # but for the first stage, which lost its graph
    assert f"encode runs without a CUDA graph, which is slower: CUDA: {function}" in caplog.text


def test_all_stages_share_one_scratch_memory(
    runtime: TensorRT, reference: Reference, fake: FakeTensorRT, driver: Driver
) -> None:
    fake.scratch = {**fake.scratch, "encode": 1 << 20, "transform": 3 << 20, "keypoints": 2 << 20, "decode": 1 << 20}
    runtime.close()
    assert driver.allocated == 0
    again = load_runtime(runtime.manifest.root, check="never", tasks=["foreground"])
    assert driver.allocated < 3.2 * 2**20
    small, large = driver.allocated, 5 << 20
    fake.scratch["keypoints"] = large
    for seed in range(3):  # the larger stage comes when the others' graphs are there
        tasks = ["foreground", *(["keypoints_2d"] if seed else [])]
        found, expected = (r.predict(picture(seed), tasks) for r in (again, reference))
        np.testing.assert_array_equal(found.dense["foreground"], expected.dense["foreground"])
    assert found.keypoints is not None
    np.testing.assert_array_equal(found.keypoints.xyz, expected.keypoints.xyz)
    assert driver.allocated < small - (3 << 20) + large + (1 << 18)
    again.unload("keypoints")
    again.close()
    assert driver.allocated == 0


def test_too_little_memory_is_one_line(engines: Path, driver: Driver) -> None:
    driver.room(0)
    with pytest.raises(UserError, match=r"expected \d+ MB for a network on the GPU, found 0 MB free: close what else"):
        load_runtime(engines, "tensorrt", check="never").predict(picture(0), ["foreground"])


@pytest.mark.parametrize("others", [0, 3])
def test_a_stage_that_does_not_fit_leaves_the_others_running(
    others: int, engines: Path, fake: FakeTensorRT, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """others: MB that another program takes as soon as the smaller memory was freed."""
    fake.scratch = {**fake.scratch, "encode": 3 << 20, "keypoints": 50 << 20}
    runtime = load_runtime(engines, check="never", tasks=["foreground"])
    assert isinstance(runtime, TensorRT)
    reference = Reference(runtime)
    runtime.predict(picture(0), ["foreground"])
    driver.room(5)
    allocate = runtime.cuda.allocate

    def crowded(size: int) -> Any:
        if size >= 50 << 20:
            driver.room(5 - others)
        return allocate(size)

    monkeypatch.setattr(runtime.cuda, "allocate", crowded)
    with pytest.raises(UserError, match="expected 50 MB for a network on the GPU"):
        runtime.predict(picture(1), ["keypoints_2d"])
    driver.room(5)
    bound = {name: executor._context._parts[2].memory for name, executor in runtime._executors.items()}
    assert set(bound) == (set() if others else {"encode", "transform", "decode"})
    if not others:
        assert runtime._scratch is not None
        assert set(bound.values()) == {(runtime._scratch.address, 3 << 20)}
    for seed in range(3):
        found, expected = (r.predict(picture(seed), ["foreground"]).dense["foreground"] for r in (runtime, reference))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("what", "error", "words"),
    [
        ("deserialise", UserError, r"encode.engine: expected an engine that tensorrt .* loads, found none; rebuild"),
        ("context", UserError, "TensorRT makes no context for encode: out of memory"),
        ("address", UserError, "TensorRT refuses the buffer 'frames' of encode, 23040 bytes"),
        ("run", RuntimeError, "TensorRT could not run encode"),
    ],
)
def test_what_tensorrt_refuses_is_said(
    what: str, error: type[Exception], words: str, engines: Path, fake: FakeTensorRT
) -> None:
    fake.refuses.add(what)
    with pytest.raises(error, match=words):
        load_runtime(engines, "tensorrt", check="never").predict(picture(0), ["foreground"])


def test_an_error_of_the_driver_ends_a_pass_and_not_the_runtime(
    runtime: TensorRT, reference: Reference, driver: Driver
) -> None:
    runtime.predict(picture(0), ["foreground"])
    driver.refuse("cuMemcpyHtoDAsync_v2", 700)
    with pytest.raises(RuntimeError, match=r"CUDA: cuMemcpyHtoDAsync_v2: CUDA_ERROR_FAKE \(700\)"):
        runtime.predict(picture(1), ["foreground"])
    found, expected = (r.predict(picture(2), ["foreground"]).dense["foreground"] for r in (runtime, reference))
    np.testing.assert_array_equal(found, expected)


def test_another_thread_may_run_it(runtime: TensorRT, reference: Reference) -> None:
    """The node loads on one thread and runs on another."""
    found: list[Any] = []
    worker = threading.Thread(target=lambda: found.append(runtime.predict(picture(1), tuple(TASKS))))
    worker.start()
    worker.join()
    expected = reference.predict(picture(1), tuple(TASKS))
    np.testing.assert_array_equal(found[0].dense["dense_pose"], expected.dense["dense_pose"])


@pytest.mark.parametrize("fake", ["rtx"], indirect=True)
def test_kernels_of_rtx_are_kept_after_the_first_pass(runtime: TensorRT, engines: Path) -> None:
    """And not when it is closed: a robot is switched off."""
    runtime.predict(picture(0), ["foreground"])
    assert runtime._jit_path is not None
    compiled = set(runtime._jit_path.read_text().split())
    assert {"encode", "transform", "decode"} <= compiled
    again = load_runtime(engines, check="never")
    assert set(again._jit.serialize().decode().split()) >= compiled


# --- the builder


@everywhere
def test_the_builder_asks_only_for_what_there_is(fake: FakeTensorRT, tmp_path: Path) -> None:
    rtx = fake.__name__ == "tensorrt_rtx"
    timing = tmp_path / "timing.cache"
    timing.write_bytes(b"of another GPU")
    for tf32 in (True, False):
        targets = ("SM89",) if rtx else ()
        built = compile_onnx(tmp_path / "encode.onnx", fake.__name__, targets, 100, timing, tf32)
        assert bytes(built.engine) == b"encode"
        assert [(t.name, t.dtype) for t in built.inputs] == [("frames", "uint8")]
        settings = fake.built[-1][1]
        assert settings["flags"] == ({"TF32"} if tf32 else set())
        assert settings["limits"] == {"WORKSPACE": 100 << 20}
        assert settings["capabilities"] == list(targets)
    strong = fake.NetworkDefinitionCreationFlag.__members__.get("STRONGLY_TYPED")
    assert settings["network"] == (1 << strong if strong is not None else 0)
    if not rtx:  # started anew, then used again
        assert (settings["cache"], timing.read_bytes()) == (b".", b"..")


def test_an_interrupted_rebuild_goes_on(engines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it ended between an engine's file and the manifest."""

    def interrupted(manifest: Manifest, name: str, info: EngineInfo) -> Stage:
        (manifest.root / f"{name}.engine").write_text("another engine")
        raise KeyboardInterrupt

    monkeypatch.setattr(build_trt, "build_stage", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_trt.build_bundle(engines, force=True)
    assert all(stage.engine is None for stage in open_bundle(engines).stages.values())


def test_what_the_builder_refuses_is_said(fake: FakeTensorRT, tmp_path: Path) -> None:
    fake.refuses.add("build")
    with pytest.raises(UserError, match=r"tensorrt built nothing from .*encode.onnx for this GPU: no kernel"):
        compile_onnx(tmp_path / "encode.onnx", "tensorrt")
    fake.__version__ = "8.6.2"
    with pytest.raises(UserError, match=r"expected TensorRT 10.3 or newer, .*JetPack 6.1., found 8.6.2: update it"):
        compile_onnx(tmp_path / "encode.onnx", "tensorrt")
    fake.__version__ = "10.13.3.9"
    with pytest.raises(UserError, match=r"tensorrt builds only for the GPU it runs on"):
        compile_onnx(tmp_path / "encode.onnx", "tensorrt", ("SM89",))


def test_the_stand_in_is_as_strict_as_the_bindings(fake: FakeTensorRT) -> None:
    """What crashed on every full TensorRT from 10.13 on."""
    engine = fake.Runtime(fake.Logger()).deserialize_cuda_engine(b"encode")
    config = engine.create_runtime_config()
    with pytest.raises(AttributeError, match="'IRuntimeConfig' object has no attribute 'create_runtime_cache'"):
        config.create_runtime_cache()
    with pytest.raises(AttributeError, match="cuda_graph_strategy"):
        config.cuda_graph_strategy = 1
    with pytest.raises(AttributeError, match="CudaGraphStrategy"):
        _ = fake.CudaGraphStrategy
    context = engine.create_execution_context(fake.ExecutionContextAllocationStrategy.USER_MANAGED)
    for arguments in ((256,), ("256", 1), (256, 1.0)):
        with pytest.raises(TypeError, match=r"incompatible arguments of IExecutionContext\.set_device_memory"):
            context.set_device_memory(*arguments)
