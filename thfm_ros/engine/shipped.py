"""The CPU bundle of a checkpoint, made once a machine and content: what runs where no bundle was named."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from signal import SIGKILL, Signals

from thfm_ros import processes
from thfm_ros.engine.bundle import complete_bundle
from thfm_ros.engine.manifest import FORMAT
from thfm_ros.errors import ParameterError, UserError
from thfm_ros.files import clear_abandoned_in, locked
from thfm_ros.paths import cache_entry, cache_folder, resource

Report = Callable[[str], None]
# What pip needs to be asked for, where a checkpoint runs and where it is exported: this package is in no index.
MODEL_PACKAGES = "'torch>=2.6,<3' 'diffusers>=0.42,<0.43' 'transformers>=4.50,<6' 'accelerate>=1.2,<2'"
EXPORT_PACKAGES = f"{MODEL_PACKAGES} 'onnx>=1.17,<2' 'onnxscript>=0.3,<1'"


def shipped_checkpoint() -> Path:
    """weights/nano; ParameterError where no weights ship."""
    try:
        return resource("weights", "nano", "thfm.json").parent
    except UserError:
        raise ParameterError(
            "no weights ship with this installation: name a bundle (thfm export makes one from a checkpoint)"
        ) from None


def cpu_bundle(checkpoint: Path, stop: Callable[[], bool] = lambda: False, report: Report = lambda what: None) -> Path:
    """The CPU bundle of a checkpoint, exported by a process of its own (this one stays free of torch).

    Of several processes that want it at once one exports and the others wait. A damaged one is made anew.

    Args:
        stop: asked often; where it says so, the export ends with this call.
        report: called with what takes a while.
    Raises:
        processes.Stopped: because of `stop`.
        UserError: the export failed; it says what to do.
    """
    recipe = resource("engines", "cpu.yaml")
    ready = _place(checkpoint, recipe, Path(__file__).parents[1])
    if complete_bundle(ready):
        return ready
    bundle = cache_folder("bundles") / ready.name
    with locked(bundle, stop, lambda: report(f"waiting for another process that exports {checkpoint}")) as ours:
        if not ours:
            raise processes.Stopped(f"stopped before {checkpoint} was exported")
        if not complete_bundle(bundle):  # that of the process that had the lock before
            if bundle.exists():
                report(f"the bundle in {bundle} is damaged, and is made anew")
                shutil.rmtree(bundle, ignore_errors=True)  # an export replaces no folder without a manifest
            report(f"exporting {checkpoint} for this machine (once)")
            _export(checkpoint, recipe, bundle, stop)
    return bundle


def is_exported(checkpoint: Path) -> bool:
    """Whether the CPU bundle of a checkpoint is in the cache, and whole. UserError where there can be no cache."""
    place = _place(checkpoint, resource("engines", "cpu.yaml"), Path(__file__).parents[1])
    return complete_bundle(place) is not None


def shipped_bundle(stop: Callable[[], bool] = lambda: False, report: Report = lambda what: None) -> Path:
    """The CPU bundle of the shipped weights; see `cpu_bundle`."""
    return cpu_bundle(shipped_checkpoint(), stop, report)


def _export(checkpoint: Path, recipe: Path, bundle: Path, stop: Callable[[], bool]) -> None:
    arguments = ("export", str(checkpoint), "--recipe", str(recipe), "--out", str(bundle))
    try:
        done = processes.run("thfm_ros.cli", *arguments, stop=stop)
    finally:
        clear_abandoned_in(bundle.parent)
    if not done.returncode:
        return
    last = (done.stderr.strip() or _ended(done.returncode)).splitlines()[-1]  # on stdout there is only its progress
    found = f"cannot export {checkpoint} to a bundle: {last}"
    if "No module named" in last:
        raise ParameterError(
            f"{found}; pip install {EXPORT_PACKAGES}, or export elsewhere (thfm export) and name that folder: bundle"
        )
    raise UserError(found)


def _ended(code: int) -> str:
    """How a process ended that wrote no error."""
    if code >= 0:
        return f"it ended with exit code {code}"
    hint = ", as the system does where memory runs out: free some, or export elsewhere" if code == -SIGKILL else ""
    return f"its process was ended by {Signals(-code).name}{hint}"


def _place(checkpoint: Path, recipe: Path, package: Path) -> Path:
    """Format and code are in the name: after an update the bundle is made anew, neither refused nor outdated.

    A checkpoint's card and curves are not: other words make no other bundle.
    """
    code = [file for layer in ("model", "engine") for file in sorted((package / layer).rglob("*.py"))]
    weights = [file for file in sorted(checkpoint.rglob("*")) if file.suffix not in (".md", ".png")]
    content = _fingerprint([recipe, *code, *weights])
    return cache_entry("bundles", f"cpu-{FORMAT}-{content}")


def _fingerprint(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        if path.is_file():
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
