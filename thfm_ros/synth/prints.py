"""Clothes as most photographs show them: plain colours of cloth with what is printed and sewn on it."""

from __future__ import annotations

import numpy as np

from thfm_ros.synth.materials import DECALS, LOWER, PATTERNS, TRIMS, UPPER, Material, colour_of, linear

KINDS = {"shirt": 0.28, "team": 0.21, "blouse": 0.15, "suit": 0.1, "work": 0.06, "bathing": 0.2}
DENIM = ((0.1, 0.14, 0.24), (0.2, 0.28, 0.42), (0.42, 0.52, 0.64))


def choose_kind(rng: np.random.Generator) -> str:
    """Draws what somebody is dressed as, one of KINDS."""
    return str(rng.choice(list(KINDS), p=list(KINDS.values())))


def _plain(rng: np.random.Generator, material: Material, colour: np.ndarray) -> None:
    """The same cloth in one colour, with deeper wrinkles."""
    material.a, material.b = colour, colour * rng.uniform(0.8, 1.1)
    material.pattern = PATTERNS.index("plain" if rng.random() < 0.75 else "heather")
    material.photo, material.extra, material.decal = -1, 0.0, int(rng.integers(DECALS - 1))
    material.folds = float(rng.uniform(0.2, 0.55))


def _contrast(rng: np.random.Generator, colour: np.ndarray) -> np.ndarray:
    """A colour that stands out from another, most often white or black."""
    if rng.random() < 0.6:
        return linear(np.full(3, 0.93 if colour.mean() < 0.3 else 0.07))
    return colour_of(rng, UPPER)


def printed(rng: np.random.Generator, kind: str, top: Material, bottom: Material) -> None:
    """Makes a top's and a bottom's cloth those of somebody dressed as one of KINDS."""
    on = TRIMS
    _plain(rng, top, colour_of(rng, UPPER))
    _plain(rng, bottom, colour_of(rng, LOWER))
    top.c, bottom.c = _contrast(rng, top.a), _contrast(rng, bottom.a)
    chest = float(rng.uniform(0.44, 0.56))
    size = float(rng.uniform(0.06, 0.12))
    top.place = (float(rng.normal(0, 0.01)), chest, size, size * float(rng.uniform(0.8, 1.2)))
    if rng.random() < 0.5 and kind in ("shirt", "blouse"):
        cloth = linear(DENIM[rng.integers(3)]) * rng.uniform(0.6, 1.5)
        bottom.a, bottom.b, bottom.pattern = cloth, cloth * 1.5 + 0.02, PATTERNS.index("denim")
    bottom.trim = on["belt"] if rng.random() < 0.3 else 0
    if kind == "shirt":
        top.trim = int(rng.choice([0, on["front"], on["back"], on["front"] + on["back"]], p=[0.35, 0.45, 0.05, 0.15]))
        top.trim += int(rng.choice([0, on["sleeves"], on["collar"]], p=[0.7, 0.15, 0.15]))
        if rng.random() < 0.15:  # an emblem on the heart
            top.place = (0.07, 0.57, 0.03, 0.03)
    elif kind == "team":
        top.decal = int(rng.integers(5) if rng.random() < 0.7 else rng.integers(5, DECALS - 1))
        top.trim = on["front"] * (rng.random() < 0.7) + on["back"] * (rng.random() < 0.85)
        top.trim += on["sleeves"] * (rng.random() < 0.35) + on["sides"] * (rng.random() < 0.4)
        top.trim += on["collar"] * (rng.random() < 0.3)
        bottom.a = [linear(np.full(3, 0.9)), linear(np.full(3, 0.55)), top.a, top.c, bottom.a][rng.integers(5)]
        bottom.b, bottom.c = bottom.a * 0.9, top.a if rng.random() < 0.5 else top.c
        bottom.trim = on["sides"] * (rng.random() < 0.5) + on["belt"] * (rng.random() < 0.25)
    elif kind == "blouse":  # a shirt with buttons, of light or patterned cloth
        top.trim = on["buttons"] + on["collar"] * (rng.random() < 0.3)
        if rng.random() < 0.4:
            top.pattern = PATTERNS.index(str(rng.choice(["thin_stripes", "vertical", "plaid", "small_dots"])))
            top.b = _contrast(rng, top.a)
    elif kind == "suit":
        dark = linear(np.array([0.07, 0.075, 0.09]) * rng.uniform(0.5, 3.5))
        bottom.a, bottom.b, bottom.trim = dark, dark * 1.1, 0
        top.a = linear(np.array([0.92, 0.93, 0.95]) if rng.random() < 0.75 else np.array([0.6, 0.72, 0.88]))
        top.b, top.c = top.a * 0.95, colour_of(rng, LOWER)
        top.pattern, top.decal, top.trim = PATTERNS.index("plain"), DECALS - 1, on["front"]
        top.place = (0.0, 0.47, 0.045, 0.2)
    elif kind == "bathing":
        top.trim = on["sides"] * (rng.random() < 0.2)
        bottom.trim = on["sides"] * (rng.random() < 0.3) + on["belt"] * (rng.random() < 0.2)
        if rng.random() < 0.7:
            bottom.a, bottom.b, bottom.c = top.a, top.b, top.c
    else:  # overalls of one colour, now and then of the brightest
        bright = linear([[0.95, 0.4, 0.05], [0.78, 0.95, 0.1], [0.15, 0.25, 0.6], [0.9, 0.9, 0.9]][rng.integers(4)])
        top.a = top.b = bottom.a = bottom.b = bright if rng.random() < 0.6 else top.a
        top.trim, bottom.trim = on["buttons"] + on["belt"] * (rng.random() < 0.5), 0
    top.trim, bottom.trim = int(top.trim), int(bottom.trim)
