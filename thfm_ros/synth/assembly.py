"""People and furniture of a clip as one mesh, ready to be rendered."""

from __future__ import annotations

import numpy as np

from thfm_ros.synth.action import Action
from thfm_ros.synth.body import Body, Identity
from thfm_ros.synth.dressed import Dressed
from thfm_ros.synth.materials import Material
from thfm_ros.synth.mesh import Mesh
from thfm_ros.synth.render import Geometry
from thfm_ros.synth.scene import Surroundings


def assemble(
    body: Body, people: list[tuple[Identity, Dressed, Action]], surroundings: Surroundings, frames: int
) -> Geometry:
    """People and furniture as one mesh; the bones after the people's are the world itself and each thing."""
    joints = len(body.bones)
    blocks: dict[str, list[np.ndarray]] = {
        k: [] for k in ("rest", "bones", "weights", "canon", "aux", "cut", "faces", "parts", "material", "flags")
    }
    materials: list[Material] = []
    count = 0

    def add(**arrays: np.ndarray) -> None:
        nonlocal count
        arrays["faces"] = arrays["faces"] + count
        arrays["material"] = arrays["material"] + len(materials)
        for k, v in arrays.items():
            blocks[k].append(v)
        count += arrays["rest"].shape[-2]

    person_vertices: list[np.ndarray] = []
    moving = any(a.rest is not None for _, _, a in people)
    for n, (_, d, action) in enumerate(people):
        fray = np.array([m.fray for m in d.materials])[d.material]
        reach = d.cut[d.faces.T].min(0)
        flags = np.where(reach <= fray * 1.6, 1, 0) | np.where((fray > 0) & (reach <= fray * 1.6), 2, 0)
        person_vertices.append(count + np.flatnonzero(d.cut > 0))
        rest = d.rest[None] if action.rest is None else action.rest
        rest = np.broadcast_to(rest, (frames if moving else 1, *rest.shape[1:]))
        add(
            rest=rest,
            bones=body.weight_bones[d.source] + n * joints,
            weights=body.weights[d.source],
            canon=d.canon,
            aux=d.aux,
            cut=d.cut,
            faces=d.faces,
            parts=d.parts,
            material=d.material,
            flags=flags,
        )
        materials += d.materials
    person_ends = np.cumsum([len(f) for f in blocks["faces"]]).tolist()

    def add_solid(mesh: Mesh, material: Material, local: np.ndarray, bone: int) -> None:
        v, f = len(mesh.vertices), len(mesh.faces)
        add(
            rest=np.broadcast_to(mesh.vertices, (frames if moving else 1, v, 3)),
            bones=np.zeros((v, 4), np.int32) + bone,
            weights=np.tile(np.array([1, 0, 0, 0], np.float32), (v, 1)),
            canon=local,
            aux=np.zeros((v, 3), np.float32),
            cut=np.ones(v, np.float32),
            faces=mesh.faces,
            parts=np.zeros(f, np.int32),
            material=np.zeros(f, np.int32),
            flags=np.zeros(f, np.int32),
        )
        materials.append(material)

    for piece in surroundings.pieces:
        for mesh, material, local in zip(piece.meshes, piece.materials, piece.local, strict=True):
            add_solid(mesh, material, local, len(people) * joints)
    for n, thing in enumerate(surroundings.things, 1):
        for mesh, material, local in zip(thing.piece.meshes, thing.piece.materials, thing.piece.local, strict=True):
            add_solid(mesh, material, local, len(people) * joints + n)
    if count == 0:  # an empty scene without furniture still needs one (degenerate, invisible) triangle
        add(
            rest=np.zeros((1, 3, 3), np.float32),
            bones=np.zeros((3, 4), np.int32),
            weights=np.tile(np.array([1, 0, 0, 0], np.float32), (3, 1)),
            canon=np.zeros((3, 3)),
            aux=np.zeros((3, 3)),
            cut=-np.ones(3),
            faces=np.array([[0, 1, 2]]),
            parts=np.zeros(1, np.int32),
            material=np.zeros(1, np.int32),
            flags=np.ones(1, np.int32),
        )
    materials += surroundings.surfaces
    eye = np.tile(np.eye(3, dtype=np.float32), (frames, 1, 1, 1))
    things = surroundings.things
    deltas = np.concatenate([a.deltas for _, _, a in people] + [eye] + [t.turns[:, None] for t in things], 1)
    still = np.zeros((frames, 1, 3), np.float32)
    offsets = np.concatenate([a.offsets for _, _, a in people] + [still] + [t.shifts[:, None] for t in things], 1)
    cat = {k: np.concatenate(v, 1 if k == "rest" else 0) for k, v in blocks.items()}
    return Geometry(
        deltas=deltas,
        offsets=offsets,
        materials=materials,
        human_faces=person_ends[-1] if people else 0,
        person_ends=person_ends if people else [0],
        person_vertices=person_vertices,
        **cat,
    )
