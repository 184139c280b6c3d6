"""The CPU bundle of a checkpoint, made once a machine and content: what runs where no bundle was named."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from thfm_ros.engine.manifest import FORMAT
from thfm_ros.errors import UserError
from thfm_ros.paths import cache_folder, resource


def shipped_checkpoint() -> Path:
    """weights/nano; UserError where no weights ship."""
    try:
        return resource("weights", "nano", "thfm.json").parent
    except UserError:
        raise UserError(
            "no weights ship with this installation: name a bundle (thfm export makes one from a checkpoint)"
        ) from None


def cpu_bundle(checkpoint: Path) -> Path:
    """The CPU bundle of a checkpoint, exported by a process of its own (this one stays free of torch).

    UserError where the export fails; it says what to do.
    """
    recipe = resource("engines", "cpu.yaml")
    bundle = _place(checkpoint, recipe, Path(__file__).parents[1])
    if (bundle / "manifest.json").is_file():
        return bundle
    command = [sys.executable, "-m", "thfm_ros.cli", "export", str(checkpoint)]
    done = subprocess.run(
        [*command, "--recipe", str(recipe), "--out", str(bundle)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        if "No module named" in last:
            last += (
                "; pip install torch diffusers transformers accelerate onnx onnxscript, or export elsewhere "
                "(thfm export) and name that folder: bundle"
            )
        raise UserError(f"cannot export {checkpoint} to a bundle: {last}")
    return bundle


def shipped_bundle() -> Path:
    """The CPU bundle of the shipped weights; UserError where there are none, or the export fails."""
    return cpu_bundle(shipped_checkpoint())


def _place(checkpoint: Path, recipe: Path, package: Path) -> Path:
    """Format and code are in the name: after an update the bundle is made anew, neither refused nor outdated."""
    code = [file for layer in ("model", "engine") for file in sorted((package / layer).glob("*.py"))]
    content = _fingerprint([recipe, *code, *sorted(checkpoint.rglob("*"))])
    return cache_folder("bundles") / f"cpu-{FORMAT}-{content}"


def _fingerprint(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        if path.is_file():
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
