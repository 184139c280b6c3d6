"""Opens a bundle and checks it, in this order and each with its own message: the folder, the JSON, the format version,
the fields, and what `checks.check_bundle` finds in files and values.

The machine is checked by `device.check_device`, the numbers by `golden.check_golden`.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path

from thfm_ros.engine.checks import check_bundle
from thfm_ros.engine.manifest import FORMAT, MANIFEST, Manifest
from thfm_ros.errors import UserError
from thfm_ros.schema import parse


def open_bundle(path: str | Path) -> Manifest:
    """The manifest of the bundle at `path` after every check of the files; UserError with the first that fails."""
    root = Path(path)
    generic = f"rebuild: thfm export CHECKPOINT --recipe engines/RECIPE.yaml --out {shlex.quote(str(root))}"
    if not root.is_dir():
        raise UserError(f"no bundle at {root}: expected a folder with {MANIFEST}, found none; {generic}")
    if not (root / MANIFEST).is_file():
        raise UserError(f"{root} is not a bundle: expected {MANIFEST} in it, found none; {generic}")
    try:
        data = json.loads((root / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{root / MANIFEST} is damaged: expected JSON, found {error}; {generic}") from None
    found = data.get("format") if isinstance(data, dict) else None
    if found != FORMAT:
        raise UserError(f"{root}: bundle format: expected {FORMAT}, found {found}; {generic}")
    try:
        parsed = parse(Manifest, data, str(root / MANIFEST), without=("root", "backend"), complete=True)
    except UserError as error:
        raise UserError(f"{error}; {generic}") from None
    manifest = dataclasses.replace(parsed, root=root)
    check_bundle(manifest)
    return manifest


def complete_bundle(path: str | Path) -> Manifest | None:
    """The manifest of the bundle at `path` where it passes every check of the files."""
    try:
        return open_bundle(path)
    except UserError:
        return None
