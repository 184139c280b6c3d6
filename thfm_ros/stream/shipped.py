"""The bundle that runs where none was named: made from the shipped weights, once a machine."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from thfm_ros.errors import UserError
from thfm_ros.paths import cache_folder, resource


def shipped_bundle() -> Path:
    """The CPU bundle of weights/nano, exported by a process of its own (this one stays free of torch).

    UserError where no weights ship, or the export fails; it says what to do.
    """
    try:
        config = resource("weights", "nano", "thfm.json")
    except UserError:
        raise UserError(
            "no weights ship with this installation: name a bundle (thfm export makes one from a checkpoint)"
        ) from None
    checkpoint, recipe = config.parent, resource("engines", "cpu.yaml")
    bundle = cache_folder("bundles") / f"nano-{_fingerprint([recipe, *sorted(checkpoint.rglob('*'))])}"
    if (bundle / "manifest.json").is_file():
        return bundle
    command = [sys.executable, "-m", "thfm_ros.cli", "export", str(checkpoint)]
    done = subprocess.run(
        [*command, "--recipe", str(recipe), "--out", str(bundle)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise UserError(f"cannot export the shipped weights to a bundle: {last}")
    return bundle


def _fingerprint(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        if path.is_file():
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
