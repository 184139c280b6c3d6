"""`thfm export`: a checkpoint to a bundle. torch -> ONNX a stage, golden outputs, prompts, manifest."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from thfm_ros.engine.bundle import complete_bundle, open_bundle
from thfm_ros.engine.golden_seeds import choose_golden
from thfm_ros.engine.manifest import (
    MANIFEST,
    EngineInfo,
    FileEntry,
    Golden,
    Manifest,
    Stage,
    file_entry,
    sha256,
    write_manifest,
)
from thfm_ros.engine.modules import StageModule, geometry_of, manifest_of, network_stages
from thfm_ros.engine.recipes import Recipe, TensorRTOptions
from thfm_ros.engine.stage_table import Geometry
from thfm_ros.errors import UserError
from thfm_ros.files import atomic, unwritable
from thfm_ros.model.checkpoint import Checkpoint, load_checkpoint

OPSET = 20
DTYPES = dict.fromkeys(("fp32", "tf32", "auto", "int8"), torch.float32) | {
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
# Of a task's clip, up to which several tasks at once are faster. Wan's 7800 fill a GPU alone, and a batch would have
# its own copy of 2.7 GB of weights.
MOST_TOKENS = 4096
ONNX_LIMIT = 1_800_000_000  # bytes of weights in one file; protobuf ends at 2 GiB
# What `load_checkpoint` reads, and the card: no pictures, and nothing that downloads leave beside it.
CHECKPOINT_FILES = (
    *("README.md", "thfm.json", "prompts.safetensors"),
    *(f"{network}/*.{kind}" for network in ("vae", "transformer", "decoder") for kind in ("json", "safetensors")),
)
Report = Callable[[str], None]  # called with what begins


def export_bundle(
    checkpoint: str | Path,
    recipe: Recipe,
    out: str | Path,
    report: Report = lambda what: None,
    replace: bool = False,
) -> Manifest:
    """Writes the whole bundle or nothing. What cannot be opened as a bundle any more (damaged, of an older format) is
    replaced; a complete one, which a running node may read, only where `replace` says so.

    Engines are not compiled here: see `build_trt.build_bundle`. Returns the manifest, read back with every check:
    that of the bundle which is there, where it is what this export would make.
    """
    root, out = Path(checkpoint), Path(out)
    if out.exists() and not (out / MANIFEST).is_file():
        raise UserError(f"{out}: expected a new folder or an older bundle, found something else; choose another --out")
    complete = None if replace else complete_bundle(out)
    report("load")
    reference = load_checkpoint(root)
    if reference.decoder is not None:
        report("decode with the checkpoint's narrow decoder")
    windows = recipe.windows and recipe.windows.size
    clip = geometry_of(reference, recipe.frames, recipe.height, recipe.width, windows)
    if complete is not None:
        if not _is_same(complete, root, reference, clip, recipe):
            raise UserError(
                f"{out} is a complete bundle, of other weights or another recipe ({complete.checkpoint}, "
                f"{complete.recipe}), and may be in use: choose another --out, or add --replace"
            )
        report(f"{out} is there already, of these weights and this recipe (--replace makes it anew)")
        return complete
    try:
        with atomic(out, replace=replace or out.exists()) as folder:
            folder.mkdir()
            write_manifest(_write(root, reference, clip, recipe, folder, report))
            manifest = open_bundle(folder)  # one that would be refused replaces no good one
    except OSError as error:
        raise unwritable(out, error) from None
    return dataclasses.replace(manifest, root=out)


def _is_same(there: Manifest, root: Path, reference: Checkpoint, clip: Geometry, recipe: Recipe) -> bool:
    """Whether a bundle is what an export of this checkpoint by this recipe would make, as far as its manifest says."""
    precisions = {name: recipe.precision_of(name) for name in stage_modules(reference, clip, recipe)}
    wanted = (
        *(weights_digest(root), recipe.target, recipe.backends),
        *(clip.frames, clip.height, clip.width, clip.windows, precisions, _engines(recipe.tensorrt)),
    )
    found = {name: stage.precision for name, stage in there.stages.items()}
    size = (there.frames, there.height, there.width, there.windows)
    return wanted == (there.weights_sha256, there.target, there.backends, *size, found, _engines(there.engine))


def _engines(asked: TensorRTOptions | EngineInfo | None) -> tuple | None:
    """What a recipe asks of engines and a manifest keeps. Capabilities of full TensorRT are those of the machine."""
    if asked is None:
        return None
    capabilities = asked.compute_capabilities if asked.flavor == "tensorrt_rtx" else ()
    return asked.flavor, capabilities, asked.workspace_mb


def _write(root: Path, reference: Checkpoint, clip: Geometry, recipe: Recipe, folder: Path, report: Report) -> Manifest:
    prompts = {name: p[0].float().numpy() for name, p in reference.prompts.items()}
    save_file(prompts, folder / "prompts.safetensors")
    (folder / "prompts.safetensors").chmod(0o644)  # written 0600: another user runs the robot
    modules = stage_modules(reference, clip, recipe)
    if left := [n for n in recipe.batch if n > 1 and f"transform_x{n}" not in modules]:
        report(f"without batches of {left}: a clip of one task fills the machine")
    stages, weights = {}, ()
    if recipe.format == "torch":
        files = sorted(file for pattern in CHECKPOINT_FILES for file in root.glob(pattern))
        weights = tuple(_copied(file, root, folder) for file in files)
        stages = {name: m.described(recipe.precision_of(name)) for name, m in modules.items()}
    else:
        types = {name: DTYPES[recipe.precision_of(name)] for name in modules}
        for dtype in dict.fromkeys(types.values()):  # one copy of the weights at a time, beside the reference
            copy = modules if dtype == torch.float32 else stage_modules(load_checkpoint(root, dtype), clip, recipe)
            for name in (name for name, type_ in types.items() if type_ == dtype):
                report(f"export {name}")
                stages[name] = _export_stage(folder, name, copy[name], recipe.precision_of(name))
            del copy
        stages = {name: stages[name] for name in modules}
    report("count the arithmetic")
    stages = {name: dataclasses.replace(s, gflop=modules[name].gflop()) for name, s in stages.items()}
    report("golden outputs")
    in_chunks = stage_modules(reference, clip, recipe, low_memory=True)
    golden = golden_outputs(reference, in_chunks, prompts, recipe.precision_of)
    options = recipe.tensorrt
    engine = options and EngineInfo(options.flavor, "", options.compute_capabilities, "", options.workspace_mb)
    return manifest_of(
        reference,
        clip,
        target=recipe.target,
        backends=recipe.backends,
        checkpoint=str(root),
        recipe=recipe.path,
        stages=stages,
        weights=weights,
        weights_sha256=weights_digest(root),
        prompts=file_entry(folder, folder / "prompts.safetensors"),
        engine=engine,
        golden=golden,
        root=folder,
    )


def _copied(file: Path, root: Path, folder: Path) -> FileEntry:
    """Copies a file of the checkpoint into the bundle."""
    copy = folder / "checkpoint" / file.relative_to(root)
    copy.parent.mkdir(parents=True, exist_ok=True)
    return file_entry(folder, Path(shutil.copy2(file, copy)))


def golden_outputs(
    reference: Checkpoint,
    modules: dict[str, StageModule],
    prompts: dict[str, np.ndarray],
    precision_of: Callable[[str], str],
) -> Golden:
    """On a GPU where there is one, which is faster by far; in float32 all the same. docs/engine.md has times."""
    jumps = reference.transformer.config.readout != "token"
    if not torch.cuda.is_available():
        return choose_golden(modules, prompts, precision_of, jumps)
    exact = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        return choose_golden({name: m.on("cuda") for name, m in modules.items()}, prompts, precision_of, jumps)
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = exact
        for stage in modules.values():
            stage.on("cpu")


def stage_modules(
    checkpoint: Checkpoint, clip: Geometry, recipe: Recipe, low_memory: bool = False
) -> dict[str, StageModule]:
    """Every stage that the recipe asks for; batches only of clips that leave a machine idle one by one."""
    patch = checkpoint.transformer.config.patch_size
    _, t, h, w = clip.latent_shape
    tokens = t * h * w // (patch[0] * patch[1] * patch[2])
    batch = recipe.batch if tokens <= MOST_TOKENS else (1,)
    return network_stages(checkpoint, clip, batch, recipe.windows.batch if recipe.windows else (), low_memory)


def weights_digest(root: Path) -> str:
    """One sha256 over all weights of a checkpoint folder."""
    lines = [f"{sha256(f)} {f.relative_to(root)}" for f in sorted(root.rglob("*.safetensors"))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _export_stage(folder: Path, name: str, stage: StageModule, precision: str) -> Stage:
    path = folder / f"{name}.onnx"
    big = sum(p.numel() * p.element_size() for p in stage.module.parameters()) > ONNX_LIMIT
    export_onnx(stage, path, external_data=big)
    if precision == "int8":
        quantise(path)
    data = path.with_name(path.name + ".data")
    return stage.described(
        precision,
        onnx=file_entry(folder, path),
        onnx_data=file_entry(folder, data) if data.exists() else None,
    )


def export_onnx(stage: StageModule, path: Path, external_data: bool = False) -> None:
    """Traces a stage for its fixed shapes and writes ONNX with the manifest's names of inputs and outputs."""
    examples = tuple(torch.zeros(t.shape, dtype=getattr(torch, t.dtype)) for t in stage.inputs)
    for logger in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            stage.module.eval(),
            examples,
            str(path),
            dynamo=True,
            opset_version=OPSET,
            input_names=[t.name for t in stage.inputs],
            output_names=[t.name for t in stage.outputs],
            external_data=external_data,
            verbose=False,
        )


def quantise(path: Path) -> None:
    """Dynamic int8 of the matrix products in place: int8 weights by channel, activations quantised as they come."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(path)
    del model.graph.value_info[:]  # shapes recorded by the exporter confuse the quantiser's own inference
    onnx.save(model, path)
    temporary = path.with_suffix(".tmp.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger().setLevel(logging.ERROR)
        quantize_dynamic(
            path, temporary, weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=["MatMul", "Gemm"]
        )
    os.replace(temporary, path)
