"""One dressed person as one mesh at rest: skin, garments, hair, shoes, eyes, with materials."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from thfm_ros.synth.body import PARTS, Body, Identity
from thfm_ros.synth.dressed import Builder, Dressed
from thfm_ros.synth.hair import add_hair
from thfm_ros.synth.materials import (
    KINDS,
    LOWER,
    PATTERNS,
    Material,
    garment_colour,
    linear,
    random_cloth,
    random_colour,
)
from thfm_ros.synth.mesh import vertex_normals
from thfm_ros.synth.prints import choose_kind, printed
from thfm_ros.synth.wardrobe import Wardrobe
from thfm_ros.synth.worn import HEADGEAR, HEADGEAR_CHANCE, add_headgear, add_outerwear, everyday

HAIR_COLOURS = (
    (0.05, 0.04, 0.035),
    (0.13, 0.08, 0.05),
    (0.25, 0.15, 0.09),
    (0.42, 0.28, 0.15),
    (0.68, 0.52, 0.3),
    (0.5, 0.2, 0.1),
    (0.6, 0.6, 0.6),
    (0.85, 0.84, 0.82),
)
EYE_COLOURS = ((0.2, 0.11, 0.06), (0.3, 0.19, 0.08), (0.3, 0.4, 0.5), (0.35, 0.42, 0.25), (0.12, 0.07, 0.05))


def _skin(rng: np.random.Generator, identity: Identity) -> np.ndarray:
    """Linear RGB from dark to pale, correlated with the origin's weights."""
    tones = np.array([[0.22, 0.13, 0.09], [0.78, 0.58, 0.44], [0.86, 0.66, 0.55]])
    mean = identity.origin @ tones
    other = tones[rng.integers(3)] * rng.uniform(0.8, 1.1)
    tone = np.clip(mean * 0.7 + other * 0.3, 0.12, 0.92) * rng.uniform(0.85, 1.1)
    return linear(np.clip(tone * np.array([1, rng.uniform(0.96, 1.03), rng.uniform(0.93, 1.05)]), 0.08, 0.95))


def dress(
    body: Body,
    wardrobe: Wardrobe,
    identity: Identity,
    rng: np.random.Generator,
    split: str = "train",
    worn: float = 0.0,
    prints: float = 0.0,
) -> Dressed:
    """A random outfit for the person; worn: chance of sober clothes, of what is worn over them and on the head;
    prints: of plain clothes of one kind, with what is printed and sewn on them."""
    w, rest = wardrobe, identity.vertices
    out = Builder(body, identity)
    normals = {k: vertex_normals(rest, body.faces[k]) for k in ("body", "tights", "skirt")}
    tags: dict[str, str] = {}
    stature = float(np.ptp(rest[body.faces["body"].ravel()[::7], 2])) / 1.84
    equipped = worn > 0 and rng.random() < worn
    # Garments first: what they cover of the skin is left out.
    kind = choose_kind(rng) if prints > 0 and rng.random() < prints else None
    covered = _add_garments(out, w, rng, split, normals, stature, equipped, kind, tags)
    barefoot = kind == "bathing" and rng.random() < 0.7
    sole, below = _add_shoes(out, w, rng, split, normals, stature, barefoot)
    hair = _add_skin(out, w, rng, np.maximum(covered, below), bare=kind == "bathing")
    headgear = str(rng.choice(HEADGEAR, p=HEADGEAR_CHANCE)) if equipped and rng.random() < 0.45 else None
    if kind == "bathing" and rng.random() < 0.35:
        headgear = "swim cap"
    add_hair(out, w, identity, rng, split, rest, normals, hair, tags, stature, covered=headgear is not None)
    if equipped or headgear:
        add_headgear(out, w, rng, split, normals["body"], headgear, tags)
    return out.build(sole, tags)


def _add_garments(
    out: Builder,
    w: Wardrobe,
    rng: np.random.Generator,
    split: str,
    normals: dict[str, np.ndarray],
    stature: float,
    equipped: bool,
    dressed_as: str | None,
    tags: dict[str, str],
) -> np.ndarray:
    """Adds top, bottom, and what is worn over them. Returns (V,) where the template is covered: above 0."""
    faces, rest, t = out.body.faces, out.identity.vertices, out.body.template
    covered = np.full(len(rest), -1.0, np.float32)
    female = out.identity.gender > 0.5
    kind = rng.choice(
        ["trousers", "shorts", "skirt", "dress"], p=[0.55, 0.15, 0.15, 0.15] if female else [0.76, 0.24, 0, 0]
    )
    sleeve = rng.choice([0.02, rng.uniform(0.1, 0.2), rng.uniform(0.3, 0.42), 0.53], p=[0.15, 0.35, 0.1, 0.4])
    hem = rng.choice([rng.uniform(0.0, 0.12), rng.uniform(0.15, 0.24), rng.uniform(0.28, 0.36)], p=[0.5, 0.42, 0.08])
    neck = float(rng.choice([0.0, rng.uniform(0.08, 0.1), rng.uniform(0.1, 0.14)], p=[0.15, 0.5, 0.35]))
    depth = float(rng.choice([0.0, rng.uniform(0.2, 1.4)], p=[0.55, 0.45]))
    loose = rng.choice([0.006, 0.014, 0.024], p=[0.35, 0.45, 0.2])
    top_cut = w.top(sleeve, hem, neck, depth)
    waist = rng.uniform(0.2, 0.34) if kind != "dress" else 0.3
    leg_end = {
        "trousers": rng.choice([-0.745, -0.72, -0.5], p=[0.6, 0.2, 0.2]),
        "shorts": rng.uniform(-0.3, -0.02),
    }.get(kind, -0.02)
    bottom_cut = w.bottom(max(waist, hem + 0.04) if kind != "dress" else 0.2, leg_end)
    tight_bottom = rng.choice([0.004, 0.012, 0.022], p=[0.35, 0.4, 0.25]) if kind in ("trousers", "shorts") else 0.003
    flare = rng.uniform(0, 0.02) if kind == "trousers" and rng.random() < 0.5 else 0.0
    z = t[:, 2]
    top_material = random_cloth(rng, split)
    bottom_material = random_cloth(rng, split, {"denim": 14.0, "floral": 0.3, "dots": 0.3, "print": 0.2, "knit": 0.3})
    if bottom_material.pattern == PATTERNS.index("denim"):
        bottom_material.a, bottom_material.b = (
            linear([0.12, 0.2, 0.36]) * rng.uniform(0.4, 1.6),
            linear([0.35, 0.45, 0.6]),
        )
    if equipped:
        top_material, bottom_material = everyday(rng, top_material), everyday(rng, bottom_material)
    if dressed_as is not None:
        printed(rng, dressed_as, top_material, bottom_material)
        tags["dressed"] = dressed_as
    offset = tight_bottom * np.clip((0.35 - z) / 0.2, 0.3, 1) + flare * np.clip((-0.25 - z) / 0.4, 0, 1)
    if dressed_as == "bathing":
        kind, top_cut, bottom_cut = _bathing(w, rng, female)
    out.add(faces["tights"], bottom_material, rest + normals["tights"] * offset[:, None] * stature, bottom_cut)
    if kind in ("skirt", "dress"):
        material = top_material if kind == "dress" else bottom_material
        length = rng.uniform(-0.68, -0.1)
        cut = np.minimum(z - length, waist - z + 0.02)
        out.add(faces["skirt"], material, rest + normals["skirt"] * 0.008, cut, part=PARTS.index("torso"))
    offset = (
        loose * np.clip((0.74 - z) / 0.1, 0.15, 1) + (0.004 + tight_bottom * 0.6) * np.clip((0.36 - z) / 0.1, 0, 1)
    ) * stature
    if dressed_as == "bathing":
        offset = np.full_like(offset, 0.004 * stature)
    if top_cut.max() > 0:
        out.add(faces["tights"], top_material, rest + normals["tights"] * offset[:, None], top_cut)
    covered = np.maximum(covered, np.maximum(top_cut, bottom_cut) - 0.03)
    if dressed_as != "bathing" and (rng.random() < 0.22 or dressed_as == "suit"):  # an open jacket
        opening = rng.uniform(0.03, 0.09)
        cut = w.top(0.53, rng.uniform(-0.02, 0.2), 0.085, 0.0)
        front = (t[:, 1] < -0.02) & (z < 0.75)
        cut = np.where(front, np.minimum(cut, np.abs(t[:, 0]) - opening), cut).astype(np.float32)
        out.add(
            faces["tights"],
            replace(bottom_material, trim=0) if dressed_as == "suit" else random_cloth(rng, split, {"floral": 0.1}),
            rest + normals["tights"] * (offset + 0.013)[:, None],
            cut,
        )
        tags["jacket"] = "open"
    if equipped and dressed_as != "bathing":
        covered = np.maximum(covered, add_outerwear(out, w, rng, split, normals, offset, stature, tags) - 0.03)
    tags |= {"bottom": str(kind), "sleeve": f"{sleeve:.2f}", "top": PATTERNS[top_material.pattern]}
    return covered


def _bathing(w: Wardrobe, rng: np.random.Generator, female: bool) -> tuple[str, np.ndarray, np.ndarray]:
    """The bottom's name, and the cuts of top and bottom, of people who bathe, run or work with little on."""
    nothing = np.full(len(w.body.template), -1.0, np.float32)
    brief = w.bottom(rng.uniform(0.1, 0.22), -0.02)
    shorts = w.bottom(rng.uniform(0.12, 0.26), rng.uniform(-0.36, -0.08))
    if not female:
        trousers = w.bottom(rng.uniform(0.16, 0.28), rng.choice([-0.74, -0.5]))
        bottom = int(rng.choice(3, p=[0.7, 0.15, 0.15]))
        return ("shorts", "brief", "trousers")[bottom], nothing, (shorts, brief, trousers)[bottom]
    neck, scoop = rng.uniform(0.1, 0.14), rng.uniform(0.5, 1.4)
    if rng.random() < 0.4:  # of one piece
        return "swimsuit", w.top(0.02, 0.0, neck, scoop), brief
    name, bottom = ("shorts", shorts) if rng.random() < 0.5 else ("brief", brief)
    return name, w.top(0.02, rng.uniform(0.36, 0.43), neck, scoop), bottom


def _add_shoes(
    out: Builder,
    w: Wardrobe,
    rng: np.random.Generator,
    split: str,
    normals: dict[str, np.ndarray],
    stature: float,
    barefoot: bool = False,
) -> tuple[float, np.ndarray]:
    """Adds shoes to most. Returns the height of the soles, and (V,) where the template is covered: above 0."""
    faces, rest, t = out.body.faces, out.identity.vertices, out.body.template
    z = t[:, 2]
    if barefoot or rng.random() >= 0.9:
        return 0.0, np.full(len(rest), -1.0, np.float32)
    sole = rng.uniform(0.012, 0.035)
    height = rng.choice([-0.735, -0.69, -0.5], p=[0.6, 0.3, 0.1])
    shoe_cut = w.shoe(height)
    colour = garment_colour(rng, split, LOWER, 0.15)
    band = garment_colour(rng, split) if rng.random() < 0.5 else linear(np.full(3, 0.9))
    trim, gloss = garment_colour(rng, split), float(rng.uniform(0.05, 0.4))
    leather = Material("shoe", colour, band, trim, gloss=gloss, sharpness=30.0, scale=6.0)
    feet = out.body.parts[w.shoes_source[w.shoes_faces[:, 0]]]
    shape = rest[w.shoes_source] + (w.shoes - t[w.shoes_source]) * stature
    base = t[w.shoes_source][:, 2].min()
    shape[:, 2] -= sole * np.clip((base + 0.03 - w.shoes[:, 2]) / 0.02, 0, 1)
    out.sheet(w.shoes_faces, leather, shape, w.shoes_source, w.shoes, np.ones(len(shape)), feet)
    if height > -0.72:  # a boot's or a sock's shaft
        shaft = np.minimum(shoe_cut, z + 0.75)
        out.add(faces["body"], leather, (rest + normals["body"] * 0.009).astype(np.float32), shaft.astype(np.float32))
    shoe_cut = np.minimum(shoe_cut, height - z) if height > -0.72 else -0.745 - z
    return sole, shoe_cut - 0.015


def _add_skin(
    out: Builder, w: Wardrobe, rng: np.random.Generator, covered: np.ndarray, bare: bool = False
) -> np.ndarray:
    """Adds skin, eyes, lashes and teeth; bare: the trunk shows. Returns the hair's colour, which brows and stubble
    share."""
    faces, identity = out.body.faces, out.identity
    rest, female = identity.vertices, identity.gender > 0.5
    skin = _skin(rng, identity)
    lips = skin * np.array([0.95, 0.55, 0.52])
    if female and rng.random() < 0.4:
        lips = linear([rng.uniform(0.5, 0.85), rng.uniform(0.08, 0.35), rng.uniform(0.15, 0.4)])
    hair = linear(
        HAIR_COLOURS[
            rng.choice(
                8,
                p=[0.3, 0.24, 0.16, 0.1, 0.07, 0.05, 0.04, 0.04]
                if identity.age < 0.92
                else [0.08, 0.1, 0.08, 0.05, 0.04, 0.05, 0.35, 0.25],
            )
        ]
    ) * rng.uniform(0.7, 1.3)
    if rng.random() < 0.04:
        hair = random_colour(rng, 1.0)
    aux = np.stack(
        [w.masks["lips"], w.masks["eyelids"] + 2 * w.masks["inside_mouth"], w.masks["ears"] + w.masks["fingernails"]], 1
    )
    stubble = 0.0 if female or identity.age < 0.55 else max(0.0, rng.uniform(-0.5, 0.8))
    skin_faces = faces["body"][(covered[faces["body"]] < 0).any(1)]
    out.add(
        skin_faces,
        Material(
            "skin",
            skin,
            hair * 0.8,
            lips,
            pattern=int(bare),
            gloss=float(rng.uniform(0.1, 0.35)),
            sharpness=18.0,
            extra=float(stubble),
        ),
        rest,
        aux=aux,
    )
    eye_aux = np.zeros((len(rest), 3), np.float32)
    radius = 0.5 * float(np.ptp(out.body.template[np.unique(faces["eyes"][:140])][:, 2]))
    for side in "LR":
        own = (out.body.template[:, 0] > 0) == (side == "L")
        eye_aux[own] = ((out.body.template - w.eye_centres[side]) / radius)[own]
    head = PARTS.index("head")
    out.add(
        faces["eyes"],
        Material(
            "eye",
            linear([0.9, 0.88, 0.86]),
            linear(EYE_COLOURS[rng.choice(5, p=[0.35, 0.2, 0.2, 0.1, 0.15])]),
            gloss=1.2,
            sharpness=120.0,
        ),
        rest,
        aux=eye_aux,
        part=head,
    )
    upper = out.body.template[:, 2] > w.eye_centres["L"][2] - 0.002
    lashes = np.where(upper, 0.001 if female else -0.002, -0.005).astype(np.float32)
    out.add(
        faces["lashes"],
        Material("lash", linear([0.05, 0.04, 0.04]), fray=0.005, scale=90.0),
        rest,
        lashes,
        part=head,
        clip=0.005,
    )
    out.add(faces["teeth"], Material("mouth", linear([0.85, 0.82, 0.76]), linear([0.6, 0.25, 0.25])), rest, part=head)
    return hair


def material_rows(materials: list[Material]) -> dict[str, np.ndarray]:
    """Materials as arrays for the shader: kind, pattern (M,), colours (M, 3), numbers (M, 6)."""
    return {
        "kind": np.array([KINDS.index(m.kind) for m in materials], np.int32),
        "pattern": np.array([m.pattern for m in materials], np.int32),
        "a": np.array([m.a for m in materials], np.float32),
        "b": np.array([m.b for m in materials], np.float32),
        "c": np.array([m.c for m in materials], np.float32),
        "scale": np.array([m.scale for m in materials], np.float32),
        "folds": np.array([m.folds for m in materials], np.float32),
        "gloss": np.array([m.gloss for m in materials], np.float32),
        "sharpness": np.array([m.sharpness for m in materials], np.float32),
        "fray": np.array([m.fray for m in materials], np.float32),
        "extra": np.array([m.extra for m in materials], np.float32),
        "photo": np.array([m.photo for m in materials], np.int32),
        "decal": np.array([m.decal + len(PATTERNS) for m in materials], np.int32),
        "place": np.array([m.place for m in materials], np.float32),
        "trim": np.array([m.trim for m in materials], np.int32),
    }
