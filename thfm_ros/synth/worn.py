"""What people wear against weather, sun and blows, and carry on their bodies: all of it belongs to the person.

Coats, hoods, hats, helmets, glasses, masks, gloves, backpacks and bags. Their dense pose is that of the body below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from thfm_ros.synth.body import PARTS
from thfm_ros.synth.clutter import PHOTOGRAPHS, cuboid, lump, turned
from thfm_ros.synth.materials import PATTERNS, Material, linear, random_cloth, random_colour
from thfm_ros.synth.mesh import Mesh
from thfm_ros.synth.wardrobe import Wardrobe

if TYPE_CHECKING:
    from thfm_ros.synth.dressed import Builder

# sRGB of what most clothes have: black, navy, grey, brown, beige, white, olive, dark red.
SOBER = (
    (0.05, 0.05, 0.06),
    (0.08, 0.09, 0.12),
    (0.1, 0.13, 0.24),
    (0.3, 0.31, 0.33),
    (0.55, 0.56, 0.57),
    (0.32, 0.24, 0.18),
    (0.68, 0.6, 0.48),
    (0.9, 0.9, 0.88),
    (0.28, 0.3, 0.2),
    (0.38, 0.1, 0.12),
)
SOBER_CHANCE = (0.2, 0.14, 0.14, 0.1, 0.08, 0.08, 0.06, 0.12, 0.04, 0.04)


def everyday(rng: np.random.Generator, material: Material) -> Material:
    """The same cloth as most people wear it: plain and sober half of the time, now and then with a photograph on it."""
    roll = rng.random()
    if roll < 0.5:
        colour = np.array(SOBER[rng.choice(len(SOBER), p=SOBER_CHANCE)])
        material.a = linear(np.clip(colour * rng.uniform(0.7, 1.25) + rng.normal(0, 0.015, 3), 0.015, 0.97))
        material.b = material.a * rng.uniform(0.75, 1.2)
        material.pattern = PATTERNS.index("plain" if rng.random() < 0.7 else "heather")
    elif roll < 0.68:
        material.photo, material.extra = int(rng.integers(PHOTOGRAPHS)), float(rng.uniform(0.15, 0.9))
        material.scale = float(rng.uniform(0.8, 4.0))
    return material


def _hard(rng: np.random.Generator) -> Material:
    """Painted plastic or metal."""
    colour = random_colour(rng, 0.8) if rng.random() < 0.6 else linear(np.full(3, rng.choice([0.06, 0.5, 0.92])))
    return Material(
        "object", colour, colour, colour, photo=0, extra=0.0, gloss=float(rng.uniform(0.2, 0.9)), sharpness=50.0
    )


def add_outerwear(
    out: Builder,
    w: Wardrobe,
    rng: np.random.Generator,
    split: str,
    normals: dict[str, np.ndarray],
    offset: np.ndarray,
    stature: float,
    tags: dict[str, str],
) -> np.ndarray:
    """Perhaps a thick jacket, a coat, a vest; gloves; a backpack or a bag. offset (V,): how far the top stands off.

    Returns (V,) what they cover, as garments' cuts do; what was added before is left out where it is covered.
    """
    rest, t = out.identity.vertices, out.body.template
    z, cover = t[:, 2], np.full(len(t), -1.0, np.float32)
    roll = rng.random()
    if roll < 0.45:
        kind = "coat" if roll < 0.15 else "vest" if roll < 0.22 else "jacket"
        sleeve = 0.02 if kind == "vest" else 0.54
        hem = {"coat": rng.uniform(-0.5, -0.1), "vest": rng.uniform(0.0, 0.2), "jacket": rng.uniform(-0.04, 0.16)}[kind]
        material = everyday(rng, random_cloth(rng, split, {"floral": 0.2, "dots": 0.3}))
        if kind == "vest" and rng.random() < 0.5:
            material.a = material.b = linear([[0.95, 0.45, 0.05], [0.75, 0.95, 0.1]][rng.integers(2)])
        thick = rng.uniform(0.012, 0.045)
        quilt = 1 - 0.4 * (rng.random() < 0.35) * np.abs(np.sin(z * rng.uniform(30, 60)))
        puff = (thick * quilt * np.clip((0.76 - z) / 0.08, 0.2, 1)).astype(np.float32)
        arms = w.is_arm & (w.arm > 0.5)
        puff = np.where(arms, puff * 0.4, puff) * stature + offset
        cut = w.top(sleeve, max(hem, -0.02), float(rng.uniform(0.06, 0.085)), 0.0)
        if rng.random() < 0.3:  # open in front
            front = (t[:, 1] < -0.02) & (z < 0.75)
            cut = np.where(front, np.minimum(cut, np.abs(t[:, 0]) - rng.uniform(0.01, 0.07)), cut)
        cover = cut.astype(np.float32)
        out.hide(cover)
        out.add(out.body.faces["tights"], material, rest + normals["tights"] * puff[:, None], cover)
        if hem < -0.02:
            skirt = np.minimum(z - hem, 0.2 - z)
            shape = rest + normals["skirt"] * (0.02 + thick * 0.5)
            out.add(out.body.faces["skirt"], material, shape, skirt, part=PARTS.index("torso"))
        offset = puff
        tags["outer"] = kind
    if rng.random() < 0.15:
        hand = np.isin(out.body.parts, [PARTS.index(p) for p in PARTS if "hand" in p])
        faces = out.body.faces["body"]
        glove = everyday(rng, random_cloth(rng, split, {"knit": 3.0}))
        shape = rest + normals["body"] * (rng.uniform(0.004, 0.01) * stature)
        out.add(faces[hand[faces].any(1)], glove, shape.astype(np.float32))
        cover = np.where(hand, 0.05, cover).astype(np.float32)
        tags["gloves"] = "yes"
    roll = rng.random()
    if roll < 0.16:
        _backpack(out, rng, split, normals, offset, stature)
        tags["bag"] = "backpack"
    elif roll < 0.28:
        _shoulder_bag(out, rng, split, normals, offset, stature)
        tags["bag"] = "shoulder"
    return cover


def _strap(out: Builder, material: Material, shape: np.ndarray, cut: np.ndarray) -> None:
    out.add(out.body.faces["tights"], material, shape.astype(np.float32), cut.astype(np.float32))


def _backpack(out, rng, split, normals, offset, stature) -> None:
    rest, t = out.identity.vertices, out.body.template
    material = everyday(rng, random_cloth(rng, split))
    anchor = _vertex(t, np.array([0.0, 0.12, 0.5]), out)
    w, d, h = rng.uniform(0.13, 0.2) * stature, rng.uniform(0.06, 0.13) * stature, rng.uniform(0.18, 0.34) * stature
    centre = rest[anchor] + np.array([0, d * 0.8 + offset[anchor], -0.02])
    mesh = (
        lump((w, d, h), tuple(centre), 12)[0] if rng.random() < 0.6 else cuboid((2 * w, 2 * d, 2 * h), tuple(centre))[0]
    )
    out.attach(mesh, material, anchor, _back_to(t, anchor, mesh, rest), PARTS.index("torso"))
    band = np.minimum(0.024 - np.abs(np.abs(t[:, 0]) - 0.11), np.minimum(t[:, 2] - 0.36, 0.72 - t[:, 2]))
    band = np.where(out.body.parts == PARTS.index("torso"), band, -0.1)
    _strap(out, material, rest + normals["tights"] * (offset + 0.008)[:, None], band)


def _shoulder_bag(out, rng, split, normals, offset, stature) -> None:
    rest, t = out.identity.vertices, out.body.template
    material = everyday(rng, random_cloth(rng, split))
    side = rng.choice([-1, 1])
    anchor = _vertex(t, np.array([side * 0.17, rng.uniform(-0.08, 0.08), 0.1]), out)
    size = rng.uniform((0.05, 0.1, 0.09), (0.09, 0.2, 0.18)) * stature
    centre = rest[anchor] + np.array([side * (size[0] * 0.7 + offset[anchor]), 0, -size[2] * 0.4])
    mesh = lump(tuple(size), tuple(centre), 10)[0]
    out.attach(mesh, material, anchor, _back_to(t, anchor, mesh, rest), PARTS.index("torso"))
    across = t[:, 0] * side - (0.17 - (t[:, 2] - 0.1) * 0.5)  # from that hip to the other shoulder
    band = np.minimum(0.022 - np.abs(across), np.minimum(t[:, 2] - 0.05, 0.74 - t[:, 2]))
    band = np.where(out.body.parts == PARTS.index("torso"), band, -0.1)
    _strap(out, material, rest + normals["tights"] * (offset + 0.008)[:, None], band)


def _vertex(template: np.ndarray, point: np.ndarray, out: Builder) -> int:
    """The body's vertex nearest to a point of the template."""
    used = np.unique(out.body.faces["body"])
    return int(used[np.argmin(((template[used] - point) ** 2).sum(1))])


def _back_to(template: np.ndarray, anchor: int, mesh: Mesh, rest: np.ndarray) -> np.ndarray:
    """(N, 3) canonical coordinates of what hangs on a vertex: on the body there, shrunk to what is below it."""
    return template[anchor] + 0.3 * (mesh.vertices - rest[anchor])


HEADGEAR = ("cap", "beanie", "helmet", "brim", "hood", "scarf")
HEADGEAR_CHANCE = (0.28, 0.18, 0.24, 0.12, 0.1, 0.08)


def add_headgear(
    out: Builder,
    w: Wardrobe,
    rng: np.random.Generator,
    split: str,
    normals: np.ndarray,
    kind: str | None,
    tags: dict[str, str],
) -> None:
    """kind: of HEADGEAR, a swim cap, or None; and now and then sunglasses, goggles, or a mask over mouth and nose."""
    rest, t = out.identity.vertices, out.body.template
    head = PARTS.index("head")
    faces = out.body.faces["body"]
    head_faces = faces[w.is_head[faces].any(1)]
    centre, centre_template = rest[w.is_head].mean(0), t[w.is_head].mean(0)
    scale = float(np.ptp(rest[w.is_head][:, 2]) / np.ptp(t[w.is_head][:, 2]))
    anchor = int(np.flatnonzero(w.is_head)[np.argmax(t[w.is_head][:, 2])])

    def shell(thick: float, cut: np.ndarray, material: Material, which: np.ndarray = head_faces) -> None:
        shape = rest + normals * (thick * scale)
        out.add(which, material, shape.astype(np.float32), cut.astype(np.float32), part=head)

    def solid(mesh: Mesh, material: Material) -> None:
        """In the template's axes and metres around the head's middle."""
        own = Mesh((mesh.vertices * scale + centre).astype(np.float32), mesh.faces)
        out.attach(own, material, anchor, mesh.vertices * 0.9 + centre_template, head)

    middle = t[w.is_head]
    crown = float(middle[:, 2].max() - centre_template[2])
    front = float(centre_template[1] - middle[:, 1].min())
    if kind in ("cap", "beanie"):
        cloth = everyday(rng, random_cloth(rng, split, {"knit": 8.0 if kind == "beanie" else 0.5}))
        shell(0.014 if kind == "cap" else rng.uniform(0.014, 0.024), w.scalp + rng.uniform(-0.012, 0.012), cloth)
        if kind == "cap":
            backwards = rng.random() < 0.15
            solid(_visor(front * rng.uniform(0.75, 1.0), crown * 0.52, rng.uniform(0.06, 0.09), backwards), cloth)
    elif kind == "swim cap":
        tight = Material("object", photo=0, gloss=float(rng.uniform(0.1, 0.5)), sharpness=30.0)
        tight.a = tight.b = tight.c = random_colour(rng, 1.0)
        ear = out.body.data["mask_ears"].astype(np.float32) / 255
        shell(0.006, w.scalp + 0.05 * ear * (rng.random() < 0.6) + rng.uniform(-0.006, 0.014), tight)
    elif kind == "helmet":
        paint, ear = _hard(rng), out.body.data["mask_ears"].astype(np.float32) / 255
        low = rng.choice([0.0, 0.025, 0.055])  # how far it reaches down: a bicycle's, a batter's, a motorcycle's
        around = np.where(t[:, 1] > -0.075, w.scalp + 0.06 * ear + low, w.scalp + 0.01)
        shell(rng.uniform(0.024, 0.04), around + rng.uniform(-0.008, 0.01), paint)
        if rng.random() < 0.45:
            solid(_visor(front * 1.05, crown * 0.5, rng.uniform(0.04, 0.08), False), paint)
        if rng.random() < 0.3:  # bars or a chin guard before the face
            bars = turned([(front * 1.35, -0.07), (front * 1.4, -0.05), (front * 1.35, -0.03)], segments=20)[0]
            keep = (bars.vertices[bars.faces][..., 1] < -0.02).all(1)
            solid(Mesh(bars.vertices * np.array([0.8, 1.0, 1.0], np.float32), bars.faces[keep]), paint)
    elif kind == "brim":
        cloth = everyday(rng, random_cloth(rng, split))
        shell(0.016, w.scalp - 0.005, cloth)
        wide = rng.uniform(0.13, 0.22)
        z = crown * 0.45
        solid(
            turned([(0.08, z + 0.004), (wide, z + rng.uniform(-0.03, 0.01)), (0.08, z - 0.004)], segments=20)[0], cloth
        )
    elif kind in ("hood", "scarf"):
        cloth = everyday(rng, random_cloth(rng, split))
        opening = np.hypot(t[:, 0] / 0.072, (t[:, 2] - 0.875) / 0.105) - rng.uniform(0.85, 1.15)
        field = np.where(t[:, 1] < -0.045, 0.06 * opening, 0.05)
        field = np.minimum(field, t[:, 2] - 0.735)
        field = np.where(w.is_arm, -1, field)
        upper = (t[:, 2] > 0.7) & ~w.is_arm
        shell(rng.uniform(0.016, 0.03) if kind == "hood" else 0.012, field, cloth, faces[upper[faces].all(1)])
    if kind is not None:
        tags["headgear"] = kind
    roll = rng.random()
    if roll < 0.12:
        _sunglasses(out, rng, scale, anchor, w.eye_centres, goggles=roll < 0.03)
        tags["glasses"] = "dark"
    elif roll < 0.15:
        mask = np.minimum(
            np.minimum(0.868 - t[:, 2], t[:, 2] - 0.79), np.minimum(-(t[:, 1] + 0.06), 0.07 - np.abs(t[:, 0]))
        )
        shell(0.008, mask, everyday(rng, random_cloth(rng, split)))
        tags["mask"] = "yes"


def _visor(front: float, height: float, reach: float, backwards: bool) -> Mesh:
    """The peak of a cap: a bent half-disc before the forehead."""
    angle = np.linspace(-1.2, 1.2, 9)
    rows = []
    for r, drop in ((0.7, 0.0), (1.0, -0.1), (1.0, -0.25)):
        along = front * r + (reach if drop < -0.2 else 0.0) * np.cos(angle) ** 0.7
        rows.append(
            np.stack(
                [
                    0.068 * np.sin(angle) / np.sin(1.2),
                    -along,
                    height + drop * reach - 0.1 * np.abs(np.sin(angle)) * reach,
                ],
                1,
            )
        )
    points = np.stack(rows)
    if backwards:
        points = points * [-1, -1, 1] - [0, 0, 0.02]
    faces = []
    for i in range(2):
        for j in range(8):
            a = i * 9 + j
            faces += [(a, a + 1, a + 10), (a, a + 10, a + 9)]
    return Mesh(points.reshape(-1, 3).astype(np.float32), np.array(faces, np.int32))


def _sunglasses(out, rng, scale, anchor, centres, goggles) -> None:
    heads = out.identity.heads
    left, right = (heads[out.body.index[f"eye.{s}"]] for s in "LR")
    forward = np.array([0, -0.03, 0]) * scale
    dark = Material("object", linear(np.full(3, 0.07)), photo=0, extra=0.0, gloss=0.8, sharpness=60.0)
    if goggles:
        lenses = [lump((0.075 * scale, 0.022 * scale, 0.036 * scale), tuple((left + right) / 2 + forward), 12)[0]]
        dark.a = random_colour(rng, 1.0) * 0.6
    else:
        size = (rng.uniform(0.024, 0.032) * scale, 0.008, rng.uniform(0.018, 0.026) * scale)
        lenses = [lump(size, tuple(e + forward), 10)[0] for e in (left, right)]
        span = left - right
        for e, s in ((left, 1), (right, -1)):  # to the ears
            lenses.append(
                cuboid((0.004, 0.09 * scale, 0.006), tuple(e + np.array([s * 0.034 * scale, 0.02 * scale, 0.006])), 1)[
                    0
                ]
            )
        lenses.append(cuboid((abs(span[0]), 0.005, 0.006), tuple((left + right) / 2 + forward), 1)[0])
    for mesh in lenses:
        canon = (mesh.vertices - left) / scale + centres["L"]
        out.attach(mesh, dark, anchor, canon, PARTS.index("head"))
