"""A dressed person as one mesh, and how its parts are put together."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from thfm_ros.synth.body import Body, Identity
from thfm_ros.synth.materials import Material
from thfm_ros.synth.mesh import Mesh


@dataclass
class Dressed:
    """V vertices, F triangles of one person.

    rest (V, 3); source (V,) template vertex, which gives skin weights and canonical coordinates; canon (V, 3);
    cut (V,) keeps > 0; aux (V, 3) by kind; faces (F, 3); parts (F,) of body.PARTS; material (F,) row; culled (F,)
    backfaces are invisible; sole: metres the soles add below the feet.
    """

    rest: np.ndarray
    source: np.ndarray
    canon: np.ndarray
    cut: np.ndarray
    aux: np.ndarray
    faces: np.ndarray
    parts: np.ndarray
    material: np.ndarray
    materials: list[Material]
    sole: float
    tags: dict[str, str]


@dataclass
class Builder:
    """Collects a person's surfaces, each with its material."""

    body: Body
    identity: Identity
    blocks: list[dict[str, np.ndarray]] = field(default_factory=list)
    materials: list[Material] = field(default_factory=list)
    count: int = 0

    def add(
        self,
        faces: np.ndarray,
        material: Material,
        rest: np.ndarray,
        cut: np.ndarray | None = None,
        aux: np.ndarray | None = None,
        part: int | None = None,
        clip: float = 0.0,
    ) -> None:
        """Faces over the template's vertices with per-template-vertex rest (V, 3), cut (V,), aux (V, 3)."""
        if cut is not None:
            faces = faces[(cut[faces] > -clip).any(1)]
        if len(faces) == 0:
            return
        used = np.zeros(len(rest), bool)
        used[faces] = True
        which = np.flatnonzero(used)
        remap = np.cumsum(used) - 1
        parts = self.body.parts[faces[:, 0]] if part is None else np.full(len(faces), part)
        self._append(
            remap[faces],
            material,
            rest[which],
            which,
            self.body.template[which],
            np.ones(len(which)) if cut is None else cut[which],
            np.zeros((len(which), 3)) if aux is None else aux[which],
            parts,
        )

    def attach(self, mesh: Mesh, material: Material, bone_vertex: int, canon: np.ndarray, part: int) -> None:
        """A solid that moves rigidly with one template vertex."""
        n = len(mesh.vertices)
        self._append(
            mesh.faces,
            material,
            mesh.vertices,
            np.full(n, bone_vertex),
            canon,
            np.ones(n),
            np.zeros((n, 3)),
            np.full(len(mesh.faces), part),
        )

    def sheet(
        self,
        faces: np.ndarray,
        material: Material,
        rest: np.ndarray,
        source: np.ndarray,
        canon: np.ndarray,
        cut: np.ndarray,
        part: int | np.ndarray,
    ) -> None:
        """An own surface whose vertices (N,) each follow a template vertex."""
        self._append(faces, material, rest, source, canon, cut, np.zeros_like(rest), np.full(len(faces), part))

    def _append(self, faces, material, rest, source, canon, cut, aux, parts) -> None:
        self.materials.append(material)
        row = len(self.materials) - 1
        self.blocks.append(
            {
                "faces": faces + self.count,
                "rest": rest,
                "source": source,
                "canon": canon,
                "cut": cut,
                "aux": aux,
                "parts": parts,
                "material": np.full(len(faces), row),
            }
        )
        self.count += len(rest)

    def hide(self, cover: np.ndarray) -> None:
        """Leaves out the faces so far that a garment with the cut `cover` (V,) hides with a margin."""
        start = 0
        for block in self.blocks:
            below = (cover[block["source"][block["faces"] - start]] > 0.05).all(1)
            for name in ("faces", "parts", "material"):
                block[name] = block[name][~below]
            start += len(block["rest"])

    def build(self, sole: float, tags: dict[str, str]) -> Dressed:
        """All surfaces as one mesh."""
        cat = lambda k, t: np.concatenate([b[k] for b in self.blocks]).astype(t)  # noqa: E731
        return Dressed(
            cat("rest", np.float32),
            cat("source", np.int32),
            cat("canon", np.float32),
            cat("cut", np.float32),
            cat("aux", np.float32),
            cat("faces", np.int32),
            cat("parts", np.int32),
            cat("material", np.int32),
            self.materials,
            sole,
            tags,
        )
