"""Every way in which a bundle can be wrong is refused, each with its own message."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from thfm_ros.engine.bundle import open_bundle
from thfm_ros.engine.device import check_device, platform_name
from thfm_ros.engine.manifest import EngineInfo, Manifest, file_entry, sha256, write_manifest
from thfm_ros.errors import UserError


def edit(bundle: Path, change: Callable[[dict], object]) -> None:
    file = bundle / "manifest.json"
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


def refusal(bundle: Path) -> str:
    with pytest.raises(UserError) as caught:
        open_bundle(bundle)
    message = str(caught.value)
    assert "\n" not in message
    assert "expected" in message
    assert "found" in message
    assert re.search(r"rebuild: thfm (export|build) ", message)
    return message


def test_a_good_bundle_opens_and_survives_a_round_trip(bundle: Path) -> None:
    manifest = open_bundle(bundle)
    assert manifest.latent_shape == (4, 2, 2, 3)
    assert not manifest.trained
    write_manifest(manifest)
    assert open_bundle(bundle) == manifest


def test_no_bundle(tmp_path: Path) -> None:
    assert "no bundle at" in refusal(tmp_path / "nothing")
    assert "is not a bundle" in refusal(tmp_path)


def test_manifest_that_is_no_json(bundle: Path) -> None:
    text = (bundle / "manifest.json").read_text()
    (bundle / "manifest.json").write_text(text[: len(text) // 2])
    assert "is damaged: expected JSON" in refusal(bundle)


def test_wrong_format_version(bundle: Path) -> None:
    edit(bundle, lambda d: d.update(format=99))
    assert "bundle format: expected 7, found 99" in refusal(bundle)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("stages"), "expected stages, found none"),
        (lambda d: d.update(surprise=1), "unknown key 'surprise'"),
        (lambda d: d.update(frames="5"), "frames: expected int, found '5'"),
        (lambda d: d.update(latent_shape=[4, 2, 2]), "latent_shape: expected 4 values, found 3"),
        (lambda d: d["stages"]["encode"].update(inputs={}), "stages.encode: inputs: expected a list"),
        (lambda d: d["golden"]["stages"]["encode"]["latents"].update(mean=float("nan")), "expected a finite number"),
    ],
)
def test_fields(bundle: Path, change: Callable[[dict], object], words: str) -> None:
    edit(bundle, change)
    assert words in refusal(bundle)


@pytest.mark.parametrize("path", ["../outside.onnx", "/etc/hostname.onnx", "a/../../outside.onnx", "a\\..\\b.onnx"])
def test_path_traversal(bundle: Path, path: str) -> None:
    (bundle.parent / "outside.onnx").write_bytes(b"x")
    edit(bundle, lambda d: d["stages"]["decode"]["onnx"].update(path=path))
    assert "expected paths inside the bundle" in refusal(bundle)


def test_link_that_leaves_the_bundle(bundle: Path) -> None:
    outside = bundle.parent / "outside.onnx"
    (bundle / "decode.onnx").rename(outside)
    (bundle / "decode.onnx").symlink_to(outside)
    assert "expected paths inside the bundle" in refusal(bundle)


def test_pickles_are_refused(bundle: Path) -> None:
    (bundle / "weights.pt").write_bytes(b"x")
    entry = dataclasses.asdict(file_entry(bundle, bundle / "weights.pt"))
    edit(bundle, lambda d: d["weights"].append(entry))
    assert "'weights.pt' (refused)" in refusal(bundle)


def test_missing_file(bundle: Path) -> None:
    (bundle / "decode.onnx").unlink()
    assert "expected the file decode.onnx, found none" in refusal(bundle)


def test_truncated_file(bundle: Path) -> None:
    data = (bundle / "decode.onnx").read_bytes()
    (bundle / "decode.onnx").write_bytes(data[:-100])
    assert f"decode.onnx is truncated: expected {len(data)} bytes, found {len(data) - 100}" in refusal(bundle)


def test_tampered_file(bundle: Path) -> None:
    data = bytearray((bundle / "decode.onnx").read_bytes())
    before = sha256(bundle / "decode.onnx")
    data[len(data) // 2] ^= 1
    (bundle / "decode.onnx").write_bytes(data)
    message = refusal(bundle)
    assert "decode.onnx was changed: expected sha256" in message
    assert before in message
    assert sha256(bundle / "decode.onnx") in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(frames=6), "frames of a clip: expected 4k + 1, found 6"),
        (lambda d: d.update(frames=9), "latent frames of a clip: expected 3, found 2"),
        (lambda d: d.update(height=64), "'frames' of stage encode: expected (1, 5, 64, 48, 3)"),
        (
            lambda d: d["stages"]["decode"]["outputs"][0].update(shape=[1, 3, 5, 32, 32]),
            "'video' of stage decode: expected (1, 3, 5, 32, 48) of float32, found (1, 3, 5, 32, 32) of float32",
        ),
        (lambda d: d["stages"]["keypoints"]["outputs"].pop(), "outputs of stage keypoints: expected xy, xyz,"),
        (lambda d: d["stages"]["encode"].update(precision="fp7"), "precision of encode: expected one of"),
        (lambda d: d["stages"].update(warp=d["stages"]["encode"]), "found warp"),
        (lambda d: d.update(tasks=["scene_depth", "smell"]), "found ['smell']"),
        (lambda d: d.update(joint_set="h36m99"), "joint set: expected one of"),
    ],
)
def test_wrong_shapes(bundle: Path, change: Callable[[dict], object], words: str) -> None:
    edit(bundle, change)
    assert words in refusal(bundle)


def without(*stages: str) -> Callable[[dict], object]:
    return lambda d: [d["stages"].pop(name) for name in stages]


def with_batch(stage: str, batch: int) -> Callable[[dict], None]:
    def change(d: dict) -> None:
        for tensor in (*d["stages"][stage]["inputs"], *d["stages"][stage]["outputs"]):
            tensor["shape"][0] = batch

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(stages={}), "stages: expected encode, which its tasks need, found none"),
        (without("decode"), "stages: expected decode, which its tasks need, found"),
        (without("keypoints"), "stages: expected keypoints, which"),
        (with_batch("decode", 0), "of stage decode: expected (1, 4, 2, 2, 3) of float32, found (0, 4"),
        (with_batch("transform", 2), "of stage transform: expected (1, 4, 2, 2, 3) of float32, found (2, 4"),
        (lambda d: d["stages"].update(decode_x0=d["stages"].pop("decode")), "stages: expected encode, transform"),
        (
            lambda d: d["stages"].update(decode_x4=d["stages"]["decode"]),
            "stage decode_x4: expected (4, 4, 2, 2, 3) of float32, found (1, 4, 2, 2, 3)",
        ),
        (lambda d: d["stages"]["decode"].update(onnx=None), "stage decode: expected an ONNX file, found none"),
        (lambda d: d.update(fps=0), "fps: expected a positive number, found 0.0"),
        (lambda d: d.update(fps=-3), "fps: expected a positive number, found -3.0"),
        (lambda d: d.update(height=-32), "height and width: expected positive sizes, found (-32, 48)"),
        (lambda d: d["tasks"].append("foreground"), "tasks: expected each once, found foreground more than once"),
        (lambda d: d.update(tasks=[]), "tasks: expected some of scene_depth"),
        (lambda d: d.update(backends=[]), "backends: expected some of tensorrt, torch_tensorrt, openvino"),
        (lambda d: d.update(backends=["foo"]), "found ['foo']"),
        (lambda d: d.update(backends=["openvino"] * 2), "backends: expected each once, found openvino more than once"),
        (lambda d: d.update(prompts=None), "prompts: expected a file with an embedding for every task, found none"),
        (
            lambda d: d["stages"]["transform"]["inputs"].pop(),
            "inputs of stage transform: expected latents, prompt, found",
        ),
        (
            lambda d: d["stages"]["keypoints"]["inputs"][1].update(shape=[1, 9, 9]),
            "'prompt' of stage keypoints: expected (1, 4, 16) of float32, found (1, 9, 9) of float32",
        ),
        (lambda d: d["golden"]["tolerance"].pop("bf16"), "golden tolerance of bf16: expected a positive number, found"),
        (lambda d: d["golden"]["tolerance"].update(fp32=0), "golden tolerance of fp32: expected a positive number"),
        (lambda d: d["golden"]["seeds"].update(encode=-1), "golden input of encode: expected 0 or more, found -1"),
        (lambda d: d["golden"]["seeds"].pop("keypoints"), "golden input of keypoints: expected 0 or more, found none"),
        (lambda d: d["golden"]["stages"].pop("decode"), "golden outputs of stage decode: expected video, found none"),
        (
            lambda d: d["golden"]["stages"]["keypoints"].pop("xyz"),
            "golden outputs of stage keypoints: expected xyz, found none",
        ),
        (
            lambda d: d["stages"]["encode"]["inputs"][0].update(dtype="float16"),
            "'frames' of stage encode: expected (1, 5, 32, 48, 3) of uint8, found (1, 5, 32, 48, 3) of float16",
        ),
    ],
)
def test_values_that_cannot_run(bundle: Path, change: Callable[[dict], object], words: str) -> None:
    edit(bundle, change)
    assert words in refusal(bundle)


def test_prompts_of_another_size(bundle: Path) -> None:
    import numpy as np
    from safetensors.numpy import load_file, save_file

    file = bundle / "prompts.safetensors"
    prompts = load_file(file)
    prompts["foreground"] = np.zeros((9, 9), np.float32)
    save_file(prompts, file)
    edit(bundle, lambda d: d.update(prompts=dataclasses.asdict(file_entry(bundle, file))))
    assert "prompt of foreground: expected (4, 16), found (9, 9)" in refusal(bundle)


def test_prompts_that_are_no_safetensors(bundle: Path) -> None:
    file = bundle / "prompts.safetensors"
    file.write_bytes(b"\x80\x04pickle")
    edit(bundle, lambda d: d.update(prompts=dataclasses.asdict(file_entry(bundle, file))))
    assert "expected safetensors" in refusal(bundle)


# --- the machine


@pytest.fixture
def engines(exported: Path) -> Manifest:
    """As if every stage had been compiled for an Ada GPU."""
    manifest = open_bundle(exported)
    stages = {n: dataclasses.replace(s, engine=s.onnx) for n, s in manifest.stages.items()}
    info = EngineInfo("tensorrt_rtx", "1.7.1.116", ("SM86", "SM89"), platform_name())
    return dataclasses.replace(manifest, stages=stages, engine=info)


def device_refusal(manifest: Manifest, version: str, capability: str, here: str) -> str:
    with pytest.raises(UserError) as caught:
        check_device(manifest, version, capability, here)
    assert "rebuild: thfm build " in str(caught.value)
    return str(caught.value)


def test_machine_checks(engines: Manifest) -> None:
    check_device(engines, "1.7.1.116", "SM89", platform_name())
    with pytest.raises(UserError) as caught:  # which another build of the same list would not mend
        check_device(engines, "1.7.1.116", "SM75", platform_name())
    fix = r"add SM75 to compute_capabilities in .*cpu.yaml, then thfm export .*--replace"
    assert re.search(f"GPU: expected SM86 or SM89, found SM75; {fix}", str(caught.value))
    full = dataclasses.replace(engines, engine=EngineInfo("tensorrt", "10.3", ("SM87",), platform_name()))
    assert "GPU: expected SM87, found SM89" in device_refusal(full, "10.3", "SM89", platform_name())
    wrong = device_refusal(engines, "1.6.0", "SM89", platform_name())
    assert "tensorrt_rtx version: expected 1.7.1.116, found 1.6.0" in wrong
    elsewhere = device_refusal(engines, "1.7.1.116", "SM89", "Linux-riscv64")
    assert f"platform: expected {platform_name()}, found Linux-riscv64" in elsewhere


def test_unfinished_engines(engines: Manifest, exported: Path) -> None:
    plain = dataclasses.replace(open_bundle(exported), engine=engines.engine)
    assert "found an unfinished bundle" in device_refusal(plain, "1.7.1.116", "SM89", platform_name())
