"""Reads the generator's one artefact, `assets/synth/`: bodies, motions, environments, textures."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thfm_ros.errors import UserError

FORMAT_VERSION = 2
COMPONENT_STEP = 1e-5  # metres that a component's numbers are rounded to, for a coefficient of one standard deviation
FILES = ("body.npz", "motions.npz", "captures.npz", "environments.npz", "textures.npz")


@dataclass(frozen=True, eq=False)
class Assets:
    """The artefact in memory. `body`: see docs/synth.md; `motions`: (N, 44) frames by name; `captures`: arrays of
    `motion.to_capture` by name and kind ("94_04.root"); `environments`: (256, 512, 3) float32 linear radiance by name;
    `textures`: uint8 images by name; `digest`: of all files."""

    path: Path
    body: dict[str, np.ndarray]
    motions: dict[str, np.ndarray]
    captures: dict[str, np.ndarray]
    environments: dict[str, np.ndarray]
    textures: dict[str, np.ndarray]
    digest: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Assets) and self.digest == other.digest

    def __hash__(self) -> int:  # what is made of assets once is kept by them
        return hash(self.digest)


def default_path() -> Path:
    """THFM_SYNTH_ASSETS, or assets/synth next to the package (a checkout)."""
    if "THFM_SYNTH_ASSETS" in os.environ:
        return Path(os.environ["THFM_SYNTH_ASSETS"])
    return Path(__file__).resolve().parents[2] / "assets" / "synth"


def _read(path: Path, expected: str) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise UserError(f"the generator's asset {path} is missing: restore assets/synth or set THFM_SYNTH_ASSETS")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise UserError(f"asset {path} is damaged: expected SHA-256 {expected[:12]}, found {found[:12]}; restore it")
    with np.load(path, allow_pickle=False) as arrays:
        return {k: arrays[k] for k in arrays.files}


def pack_components(components: np.ndarray, coefficients: np.ndarray) -> dict[str, np.ndarray]:
    """Components (N, V, 3) in a quarter of the bytes of float16: steps from vertex to vertex in whole COMPONENT_STEPs.

    Neighbours in the mesh move alike, so most steps are small numbers. Sign bit last, and low and high bytes apart,
    they are what compression likes. coefficients: (people, N), whose deviation says how far a component moves anything.
    """
    step = (COMPONENT_STEP / coefficients.std(0)).astype(np.float32)
    whole = np.rint(components.transpose(0, 2, 1) / step[:, None, None]).astype(np.int32)
    steps = np.diff(whole, axis=2, prepend=0)
    if np.abs(steps).max() > np.iinfo(np.int16).max:
        raise UserError(f"COMPONENT_STEP is too small: expected steps of 16 bits, found {np.abs(steps).max()}")
    folded = ((steps << 1) ^ (steps >> 31)).astype(np.uint16)
    return {"components": np.stack([folded & 255, folded >> 8]).astype(np.uint8), "components_step": step}


def unpack_components(components: np.ndarray, components_step: np.ndarray) -> np.ndarray:
    """(N, V, 3) float32 metres a coefficient, as `pack_components` rounded them."""
    folded = components[0].astype(np.int32) | components[1].astype(np.int32) << 8
    whole = ((folded >> 1) ^ -(folded & 1)).cumsum(2, dtype=np.int32).astype(np.float32)
    return np.ascontiguousarray((whole * components_step[:, None, None]).transpose(0, 2, 1))


def load_assets(path: str | Path | None = None) -> Assets:
    """Loads and checks the artefact (about half a second).

    Raises UserError naming the file that is missing, damaged, or of another format version.
    """
    folder = Path(path) if path is not None else default_path()
    manifest_path = folder / "manifest.json"
    if not manifest_path.is_file():
        raise UserError(f"no generator assets at {folder}: expected manifest.json; set THFM_SYNTH_ASSETS to the folder")
    manifest = json.loads(manifest_path.read_text())
    if manifest.get("format") != FORMAT_VERSION:
        raise UserError(f"assets at {folder} have format {manifest.get('format')}, expected {FORMAT_VERSION}: rebuild")
    missing = [name for name in FILES if name not in manifest["files"]]
    if missing:
        raise UserError(f"{manifest_path} does not list {', '.join(missing)}: rebuild the assets")
    body, motions, captures, environments, textures = (_read(folder / f, manifest["files"][f]) for f in FILES)
    body["components"] = unpack_components(body["components"], body.pop("components_step"))
    digest = hashlib.sha256("".join(manifest["files"][f] for f in FILES).encode()).hexdigest()
    return Assets(
        path=folder,
        body=body,
        motions=motions,
        captures=captures,
        environments={k: v.astype(np.float32) for k, v in environments.items()},
        textures=textures,
        digest=digest,
    )
