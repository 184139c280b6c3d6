"""Hair, beards, hats and glasses: shells that stand off the head, sheets and solids that move with it."""

from __future__ import annotations

import numpy as np

from thfm_ros.synth.body import PARTS, Identity
from thfm_ros.synth.dressed import Builder
from thfm_ros.synth.materials import Material, linear, random_cloth
from thfm_ros.synth.mesh import Mesh, box, ellipsoid, merge, torus
from thfm_ros.synth.wardrobe import Wardrobe


def add_hair(
    out: Builder,
    w: Wardrobe,
    identity: Identity,
    rng: np.random.Generator,
    split: str,
    rest: np.ndarray,
    normals: dict[str, np.ndarray],
    colour: np.ndarray,
    tags: dict[str, str],
    stature: float,
    covered: bool = False,
) -> None:
    """Scalp shells that stand off the head, long hair, buns, beards, hats and glasses; covered: hair that lies flat
    below what is worn on the head."""
    body = out.body
    female, adult = identity.gender > 0.5, identity.age > 0.55
    styles = ["bald", "buzz", "short", "full", "afro", "long", "bun", "hat"]
    p = [0.01, 0.03, 0.12, 0.16, 0.08, 0.36, 0.16, 0.08] if female else [0.08, 0.16, 0.36, 0.18, 0.08, 0.04, 0.02, 0.08]
    style = str(rng.choice(styles, p=p))
    if covered:
        style = {"full": "buzz", "short": "buzz", "afro": "buzz", "bun": "buzz", "hat": "bald"}.get(style, style)
    tags["hair"] = style
    t, faces = body.template, body.faces["body"]
    head_faces = faces[w.is_head[faces].any(1)]
    centre, centre_template = rest[w.is_head].mean(0), t[w.is_head].mean(0)
    scale = float(np.ptp(rest[w.is_head][:, 2]) / np.ptp(t[w.is_head][:, 2]))
    anchor = int(np.flatnonzero(w.is_head)[np.argmax(t[w.is_head][:, 2])])
    material = Material(
        "hair",
        colour,
        colour * rng.uniform(0.4, 0.7),
        gloss=float(rng.uniform(0.15, 0.5)),
        sharpness=22.0,
        fray=0.012,
        scale=float(rng.choice([18.0, 30.0, 45.0])),
    )
    hair_part = PARTS.index("hair")

    def shell(height: float, lift: float, fray: float, cut: np.ndarray, m: Material, part: int) -> None:
        taper = np.clip(cut / 0.03, 0, 1) ** 0.6 * (trim + (1 - trim) * crown)
        bumps = 1 + 0.25 * np.sin(t[:, 0] * 70 + lift) * np.sin(t[:, 1] * 60) * np.sin(t[:, 2] * 65)
        grow = (height * taper * bumps * scale)[:, None]
        up = np.array([0, 0.15, 0.5]) * lift
        shape = rest + (normals["body"] + up) * grow
        m = Material(**{**m.__dict__, "fray": fray})
        out.add(head_faces, m, shape.astype(np.float32), cut, part=part, clip=fray)

    recede = 0.0 if female else rng.choice([0.0, rng.uniform(0, 0.03)], p=[0.6, 0.4])
    # Short cuts are trimmed at the sides and the nape; a hairline wanders by some millimetres.
    trim = {"short": rng.uniform(0.15, 0.6), "full": rng.uniform(0.35, 0.9), "buzz": 0.6}.get(style, 1.0)
    crown = np.clip((t[:, 2] - 0.905) / 0.085, 0, 1)
    wave = 0.0025 * (np.sin(95 * t[:, 0] + rng.uniform(0, 6)) + np.sin(120 * t[:, 1] + rng.uniform(0, 6)))
    scalp = w.scalp + wave + rng.uniform(-0.008, 0.006) - recede * np.clip(-(t[:, 1] + 0.06) / 0.06, 0, 1)
    if style in ("buzz", "short", "full", "long", "bun", "afro"):
        height = {
            "buzz": 0.003,
            "short": 0.012,
            "full": 0.026,
            "long": 0.012,
            "bun": 0.008,
            "afro": rng.uniform(0.04, 0.085),
        }[style]
        if covered:
            height = min(height, 0.004)
        if style in ("full", "afro"):
            scalp = scalp + 0.01
        shell(height, 0.0 if style in ("afro", "buzz") else 0.6, 0.004, scalp, material, hair_part)
        if style != "buzz":
            shell(height * 1.25 + 0.004, 0.6, 0.02 + 0.4 * height, scalp - 0.012 - 0.1 * height, material, hair_part)
    if style == "long":
        end = rng.choice([rng.uniform(0.72, 0.8), rng.uniform(0.55, 0.7), rng.uniform(0.36, 0.5)])
        moved = (w.curtain - centre_template) * scale + centre
        low = np.clip((0.8 - w.curtain[:, 2]) / 0.12, 0, 1)[:, None]  # below the chin it follows the body's own shape
        moved = moved * (1 - low) + (rest[w.curtain_source] + (w.curtain - t[w.curtain_source])) * low
        m = Material(**{**material.__dict__, "fray": 0.03})
        out.sheet(
            w.curtain_faces,
            m,
            moved,
            w.curtain_source,
            w.curtain,
            (w.curtain[:, 2] - end).astype(np.float32),
            hair_part,
        )
    if style == "bun":
        back = np.array([0, rng.uniform(0.075, 0.115), rng.uniform(0.0, 0.12)]) * scale
        r = rng.uniform(0.03, 0.055) * scale
        mesh = ellipsoid(np.array([r, r, r * rng.uniform(0.8, 1.2)]), centre + back)
        out.attach(mesh, material, anchor, (mesh.vertices - centre) / scale + centre_template, hair_part)
    if style == "hat":
        hat = random_cloth(rng, split, {"knit": 6.0, "floral": 0.2})
        shell(0.014, 0.2, 0.0, w.scalp + rng.uniform(-0.02, 0.015), hat, PARTS.index("head"))
        tags["hat"] = "cap"
    if not female and adult and rng.random() < 0.3:
        beard = Material(**{**material.__dict__, "a": colour * 0.8})
        shell(rng.uniform(0.003, 0.012), 0.0, 0.006, w.beard, beard, PARTS.index("head"))
        tags["beard"] = "full"
    if rng.random() < 0.14:
        _glasses(out, w, rng, rest, scale, anchor)
        tags["glasses"] = "yes"


def _glasses(out: Builder, w: Wardrobe, rng: np.random.Generator, rest: np.ndarray, scale: float, anchor: int) -> None:
    heads = out.identity.heads
    left, right = (heads[out.body.index[f"eye.{s}"]] for s in "LR")
    forward = np.array([0, -0.028, 0]) * scale
    rings = [
        Mesh(
            (torus(rng.uniform(0.02, 0.026) * scale, 0.0022).vertices + e + forward).astype(np.float32),
            torus(0.02, 0.002).faces,
        )
        for e in (left, right)
    ]
    span = left - right
    bars = []
    for e, side in ((left, 1), (right, -1)):
        a = e + forward + np.array([side * 0.024 * scale, 0, 0.004])
        b = np.array(
            [side * np.abs(rest[w.masks["ears"] > 0.5][:, 0]).min(), rest[w.masks["ears"] > 0.5][:, 1].mean(), a[2]]
        )
        bars.append(_bar(a, b, 0.002))
    bars.append(_bar(right + forward + 0.25 * span, left + forward - 0.25 * span, 0.0022))
    mesh = merge(rings + bars)
    canon = (mesh.vertices - left) / scale + w.eye_centres["L"]
    m = Material(
        "shoe", linear(np.full(3, rng.choice([0.05, 0.2, 0.6]))), linear(np.full(3, 0.05)), gloss=0.6, sharpness=40.0
    )
    out.attach(mesh, m, anchor, canon, PARTS.index("head"))


def _bar(a: np.ndarray, b: np.ndarray, r: float) -> Mesh:
    size = np.maximum(np.abs(b - a), 2 * r)
    return box(size, (a + b) / 2, 1)
