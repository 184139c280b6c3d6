"""Materials and the small tileable textures that the shader looks up."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from thfm_ros.synth.assets import Assets

KINDS = ("skin", "cloth", "eye", "hair", "shoe", "mouth", "lash", "object")
PATTERNS = [
    "plain",
    "heather",
    "stripes",
    "thin_stripes",
    "vertical",
    "checks",
    "plaid",
    "dots",
    "small_dots",
    "floral",
    "camo",
    "denim",
    "knit",
    "print",
    "zigzag",
    "houndstooth",
    *(f"fancy{k}" for k in range(10)),  # whatever cloth may show, in the split "train" only
]
SURFACES = [
    "flat",
    "brick",
    "grass",
    "gravel",
    "planks",
    "tiles",
    "concrete",
    "wallpaper",
    "carpet",
    "marble",
    "boards",
    "stone",
    "dirt",
    "herringbone",
]
SIZE = 256
DECALS = 16  # prints on clothes: numbers, words, emblems, a tie
# Bits of what is on a garment, in its colour c where it has a colour: a decal on the chest or on the back, sleeves,
# stripes down the sides, a collar, a row of buttons, a belt.
TRIMS = {"front": 1, "back": 2, "sleeves": 4, "sides": 8, "collar": 16, "buttons": 32, "belt": 64}


@dataclass
class Material:
    """What the shader needs to know about one part. Colours are linear RGB."""

    kind: str
    a: np.ndarray = field(default_factory=lambda: np.full(3, 0.5))
    b: np.ndarray = field(default_factory=lambda: np.full(3, 0.5))
    c: np.ndarray = field(default_factory=lambda: np.full(3, 0.5))
    pattern: int = 0  # of PATTERNS for cloth, of SURFACES for objects; of skin: 1 paints a bare trunk
    scale: float = 4.0  # texture repeats a metre
    folds: float = 0.0  # strength of the wrinkles' normals
    gloss: float = 0.1  # specular strength
    sharpness: float = 16.0  # specular exponent
    fray: float = 0.0  # metres of noise at the cut: strands of hair, knitted hems
    extra: float = 0.0  # by kind: stubble of skin; of the rest: how much of a photograph shows
    photo: int = -1  # of the scene's photographs; none: -1
    decal: int = 0  # of cloth: which of the decals
    place: tuple[float, float, float, float] = (0.0, 0.5, 0.1, 0.1)  # its middle x, z and half its width and height
    trim: int = 0  # of cloth: sum of TRIMS, what is sewn and printed on it


def linear(srgb: np.ndarray) -> np.ndarray:
    return np.asarray(srgb, float) ** 2.2


def random_colour(rng: np.random.Generator, vivid: float = 0.5) -> np.ndarray:
    """Linear RGB as clothes and objects have: greys, muted and some vivid colours."""
    roll = rng.random()
    if roll < 0.28:
        return linear(np.full(3, rng.choice([0.06, 0.12, 0.3, 0.55, 0.8, 0.93]) + rng.uniform(-0.04, 0.04)))
    saturation = rng.uniform(0.15, 0.5) if roll > 0.28 + 0.5 * vivid else rng.uniform(0.5, 0.95)
    return linear(np.array(colorsys.hsv_to_rgb(rng.random(), saturation, rng.uniform(0.15, 0.95))))


# sRGB of cloth, and how common each is on the upper body: white, black, greys, navy, blues, reds, greens, yellow,
# orange, pink, purple, beige, brown. Most cloth is dull; a seventh of the tops is vivid.
COLOURS = (
    (0.94, 0.94, 0.93),
    (0.05, 0.05, 0.06),
    (0.62, 0.63, 0.64),
    (0.25, 0.26, 0.28),
    (0.1, 0.13, 0.26),
    (0.12, 0.25, 0.62),
    (0.55, 0.7, 0.88),
    (0.75, 0.1, 0.12),
    (0.4, 0.07, 0.12),
    (0.12, 0.42, 0.2),
    (0.36, 0.4, 0.25),
    (0.95, 0.8, 0.2),
    (0.93, 0.45, 0.12),
    (0.93, 0.6, 0.7),
    (0.38, 0.2, 0.5),
    (0.8, 0.72, 0.58),
    (0.36, 0.24, 0.16),
)
UPPER = np.array([18, 18, 11, 8, 10, 4, 6, 4, 3, 2, 3, 1, 1, 1.5, 1, 5, 3.5], float)
LOWER = np.array([5, 22, 9, 12, 16, 2.5, 2, 1, 1, 0.7, 4, 0.3, 0.3, 0.7, 0.4, 10, 5], float)


def colour_of(rng: np.random.Generator, weights: np.ndarray) -> np.ndarray:
    """Linear RGB near one of COLOURS."""
    base = np.array(COLOURS[rng.choice(len(COLOURS), p=weights / weights.sum())])
    return linear(np.clip(base * rng.uniform(0.8, 1.15) + rng.normal(0, 0.02, 3), 0.02, 0.98))


def garment_colour(rng: np.random.Generator, split: str, weights: np.ndarray = UPPER, other: float = 0.1) -> np.ndarray:
    """Linear RGB of cloth: of COLOURS, but for `other` of it; held-out people keep theirs, of any colour."""
    if split == "test" or rng.random() < other:
        return random_colour(rng)
    return colour_of(rng, weights)


HELD_OUT_PATTERNS = ("camo", "zigzag", "houndstooth", "checks")  # on clothes of the split "test" only


def random_cloth(rng: np.random.Generator, split: str, weights: dict[str, float] | None = None) -> Material:
    """A garment's material; weights: of patterns by name, relative to the usual ones."""
    names = list(PATTERNS)
    p = np.array([(weights or {}).get(n, 1.0) for n in names])
    p[0] *= 6
    p[1] *= 2
    held = np.array([n in HELD_OUT_PATTERNS for n in names])
    fancy = np.array([n.startswith("fancy") for n in names])
    p *= np.where(held, 8.0 if split == "test" else 0.0, 1.0) * np.where(fancy & (split == "test"), 0.0, 1.0)
    a = garment_colour(rng, split)
    b = garment_colour(rng, split) if rng.random() < 0.75 else a * rng.uniform(0.4, 0.8)
    return Material(
        "cloth",
        a,
        b,
        garment_colour(rng, split),
        pattern=int(rng.choice(len(names), p=p / p.sum())),
        scale=float(rng.uniform(2.2, 6.0)),
        folds=float(rng.uniform(0.12, 0.4)),
        gloss=float(rng.choice([0.02, 0.05, 0.25], p=[0.5, 0.35, 0.15])),
        sharpness=float(rng.uniform(6, 24)),
    )


def _fbm(rng: np.random.Generator, size: int, slope: float = 1.8, stretch: tuple[float, float] = (1, 1)) -> np.ndarray:
    """Tileable noise in [0, 1] with a power-law spectrum."""
    fy, fx = np.fft.fftfreq(size)[:, None] * stretch[0], np.fft.fftfreq(size)[None] * stretch[1]
    f = np.sqrt(fx * fx + fy * fy)
    f[0, 0] = 1
    spectrum = np.fft.fft2(rng.normal(size=(size, size))) / (f + 2 / size) ** slope
    spectrum[0, 0] = 0
    x = np.fft.ifft2(spectrum).real
    return np.clip(0.5 + x / (5 * x.std()), 0, 1)


def _worley(rng: np.random.Generator, size: int, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Tileable cellular noise: distance to the nearest point (tile units) and a random value of its cell."""
    p = rng.random((points, 2))
    g = (np.arange(size) + 0.5) / size
    best, cell = np.full((size, size), 9.0), np.zeros((size, size))
    for k, (py, px) in enumerate(p):
        dy = np.abs(g - py)[:, None]
        dx = np.abs(g - px)[None]
        d = np.hypot(np.minimum(dy, 1 - dy), np.minimum(dx, 1 - dx))
        nearer = d < best
        best, cell = np.where(nearer, d, best), np.where(nearer, (k * 0.618) % 1, cell)
    return best, cell


@cache
def cloth_patterns() -> np.ndarray:
    """(P, 256, 256, 3) in [0, 1]: weight of colour b, weight of colour c, weave brightness."""
    rng = np.random.default_rng(101)
    n = SIZE
    y, x = np.meshgrid((np.arange(n) + 0.5) / n, (np.arange(n) + 0.5) / n, indexing="ij")
    zero = np.zeros((n, n))
    soft = lambda d, w=0.02: np.clip(0.5 - d / w, 0, 1)  # noqa: E731
    weave = 0.5 + 0.25 * np.sin(2 * np.pi * 64 * x) * np.sin(2 * np.pi * 64 * y) + 0.15 * (_fbm(rng, n, 0.6) - 0.5)
    noise = _fbm(rng, n, 1.6)
    bars = lambda t, k, duty: soft(np.abs(((t * k) % 1) - 0.5) - duty / 2, 0.04 * k)  # noqa: E731
    blobs, cell = _worley(rng, n, 22)
    petals, petal_cell = _worley(rng, n, 40)
    camo = np.digitize(_fbm(rng, n, 2.2), [0.42, 0.52, 0.62])
    dot = lambda k, r: soft(np.hypot((x * k) % 1 - 0.5, (y * k + 0.5 * (np.floor(x * k) % 2)) % 1 - 0.5) - r, 0.06)  # noqa: E731
    zig = np.abs(((x * 4) % 1) - 0.5)
    hx, hy = (x * 4) % 1, (y * 4) % 1
    hound = (((hx + hy) * 2 % 1 < 0.5) & ((hx < 0.5) ^ (hy < 0.5))) | ((hx < 0.5) & (hy < 0.5))
    printed = soft(blobs - 0.09, 0.02) * (cell < 0.3)
    table = {
        "plain": (zero, zero, weave),
        "heather": (np.clip((_fbm(rng, n, 0.7, (1, 3)) - 0.35) * 2, 0, 1), zero, weave),
        "stripes": (bars(y, 2, 0.5), zero, weave),
        "thin_stripes": (bars(y, 6, 0.3), zero, weave),
        "vertical": (bars(x, 4, 0.25), zero, weave),
        "checks": (np.abs(bars(x, 3, 0.5) - bars(y, 3, 0.5)), zero, weave),
        "plaid": (
            0.55 * bars(x, 2, 0.4) + 0.45 * bars(y, 2, 0.4),
            np.maximum(bars(x + 0.1, 2, 0.06), bars(y + 0.1, 2, 0.06)),
            weave,
        ),
        "dots": (dot(4, 0.28), zero, weave),
        "small_dots": (dot(9, 0.2), zero, weave),
        "floral": (
            soft(petals - 0.05 - 0.02 * np.sin(30 * x + 20 * y), 0.02) * (petal_cell < 0.6),
            soft(petals - 0.018, 0.012),
            weave,
        ),
        "camo": ((camo == 1) * 1.0 + 0.6 * (camo == 3), (camo == 2) * 1.0, weave),
        "denim": (
            0.5 * _fbm(rng, n, 0.8, (1, 4)) + 0.3 * _fbm(rng, n, 2.0),
            zero,
            0.5 + 0.4 * np.sin(2 * np.pi * (64 * x + 64 * y)),
        ),
        "knit": (0.4 * noise, zero, 0.5 + 0.5 * np.sin(2 * np.pi * 24 * x + 2.2 * np.sin(2 * np.pi * 24 * y))),
        "print": (printed, soft(np.abs(blobs - 0.1) - 0.012, 0.02) * (cell < 0.3), weave),
        "zigzag": (soft(np.abs(((y * 5 + zig) % 1) - 0.5) - 0.2, 0.1), zero, weave),
        "houndstooth": (hound * 1.0, zero, weave),
    }
    table |= {name: (*_fancy(k), weave) for k, name in enumerate(PATTERNS[len(table) :])}
    return np.stack([np.stack(table[k], -1) for k in PATTERNS]).astype(np.float32)


def _fancy(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights (256, 256) of colours b and c: a few bent waves of random direction, cut at random levels; tileable."""
    rng = np.random.default_rng((707, seed))
    y, x = 2 * np.pi * np.stack(np.meshgrid(*[(np.arange(SIZE) + 0.5) / SIZE] * 2, indexing="ij"))
    waves = np.zeros((SIZE, SIZE))
    for _ in range(rng.integers(1, 5)):
        kx, ky = rng.integers(-5, 6, 2)
        bend = rng.uniform(0, 1.5) * np.sin(rng.integers(1, 5) * x + rng.integers(1, 5) * y + rng.uniform(0, 2 * np.pi))
        waves += np.sin(kx * x + ky * y + bend + rng.uniform(0, 2 * np.pi))
    waves += rng.uniform(0, 3) * (_fbm(rng, SIZE) - 0.5)
    high, low = np.quantile(waves, rng.uniform(0.4, 0.7)), np.quantile(waves, rng.uniform(0.1, 0.3))
    edge = 0.2 * waves.std()
    soft = lambda d: np.clip(0.5 + d / edge, 0, 1)  # noqa: E731
    return soft(waves - high), soft(low - waves)


@cache
def decals() -> np.ndarray:
    """(DECALS, 256, 256, 3) in [0, 1]: weight of colour c, then nothing: numbers, words, emblems, and last a tie."""
    import cv2

    rng = np.random.default_rng(404)
    made = np.zeros((DECALS, SIZE, SIZE, 3), np.float32)
    letters = "ABCDEFGHIJKLMNOPRSTUVWXYZ0123456789"
    y, x = np.meshgrid((np.arange(SIZE) + 0.5) / SIZE - 0.5, (np.arange(SIZE) + 0.5) / SIZE - 0.5, indexing="ij")
    for k in range(DECALS - 1):
        image = np.zeros((SIZE, SIZE), np.uint8)
        if k < 5:  # a number
            text, size, thick = str(rng.integers(1, 100)), 5.2, int(rng.integers(18, 34))
        elif k < 10:  # a word
            text = "".join(rng.choice(list(letters[:26]), int(rng.integers(3, 8))))
            size, thick = 13.0 / len(text), int(rng.integers(8, 20))
        else:
            text = ""
            angle, reach = np.arctan2(y, x), np.hypot(x, y)
            star = 0.3 + 0.12 * np.cos(int(rng.integers(2, 7)) * angle + rng.uniform(0, 6)) * rng.uniform(0.3, 1.0)
            ring = np.abs(reach - 0.44) < rng.uniform(0.0, 0.03)
            image = (((reach < star) & (reach > rng.uniform(0.0, 0.2))) | ring).astype(np.uint8) * 255
        if text:
            font = cv2.FONT_HERSHEY_DUPLEX if rng.random() < 0.5 else cv2.FONT_HERSHEY_SIMPLEX
            (wide, high), _ = cv2.getTextSize(text, font, size, thick)
            scale = min(0.86 * SIZE / wide, 0.86 * SIZE / high, 1.0)
            (wide, high), _ = cv2.getTextSize(text, font, size * scale, thick)
            corner = ((SIZE - wide) // 2, (SIZE + high) // 2)
            cv2.putText(image, text, corner, font, size * scale, 255, thick, cv2.LINE_AA)
        made[k, ..., 0] = image / 255.0
    made[-1, ..., 0] = np.abs(x) < 0.18 + 0.22 * (y + 0.5)  # a tie hangs from a knot, and widens
    return made


def surface_textures(assets: Assets) -> np.ndarray:
    """(S, 256, 256, 2) in [0, 1]: weight of colour b against a, and brightness."""
    rng = np.random.default_rng(202)
    n = SIZE
    y, x = np.meshgrid((np.arange(n) + 0.5) / n, (np.arange(n) + 0.5) / n, indexing="ij")
    photo = {k: assets.textures[f"surface.{k}"].astype(float) / 255 for k in ("brick", "grass", "gravel")}
    photo = {k: np.clip(0.5 + (v - v.mean()) / (5 * v.std()), 0, 1) for k, v in photo.items()}
    fbm, fine = _fbm(rng, n, 1.8), _fbm(rng, n, 0.9)
    edge = lambda t, k, w: (np.abs(((t * k) % 1) - 0.5) > 0.5 - w) * 1.0  # noqa: E731
    grain = _fbm(rng, n, 1.5, (8, 1))
    tone = rng.random((8, 8))
    plank = tone[(x * 4).astype(int) % 8, ((y + 0.37 * np.floor(x * 4)) * 2).astype(int) % 8]
    gaps = np.maximum(edge(x, 4, 0.02), edge(y + 0.37 * np.floor(x * 4), 2, 0.008))
    tiles = np.maximum(edge(x, 4, 0.03), edge(y, 4, 0.03))
    cells, cell = _worley(rng, n, 26)
    veins = np.abs(_fbm(rng, n, 2.0) - 0.5) < 0.02 + 0.05 * fine
    bone = ((x * 8).astype(int) + (y * 8).astype(int)) % 2
    petal_angle = np.arctan2((y * 4) % 1 - 0.5, (x * 4) % 1 - 0.5)
    petal_radius = np.hypot((x * 4) % 1 - 0.5, (y * 4) % 1 - 0.5)
    motif = np.clip(0.5 - (petal_radius - 0.26 - 0.1 * np.cos(5 * petal_angle)) / 0.05, 0, 1) * (petal_radius > 0.08)
    table = {
        "flat": (0.1 * fbm, 0.48 + 0.06 * fbm),
        "brick": (photo["brick"], 0.35 + 0.3 * photo["brick"]),
        "grass": (photo["grass"], 0.25 + 0.5 * photo["grass"]),
        "gravel": (photo["gravel"], 0.25 + 0.5 * photo["gravel"]),
        "planks": (0.6 * plank + 0.4 * grain, (0.4 + 0.2 * grain) * (1 - 0.7 * gaps)),
        "tiles": (tiles, 0.5 + 0.08 * fbm),
        "concrete": (fbm, 0.38 + 0.15 * fbm + 0.1 * fine),
        "wallpaper": (motif, 0.5 + 0.04 * fine),
        "carpet": (fine, 0.3 + 0.4 * fine),
        "marble": (np.maximum(veins * 0.8, 0.4 * fbm), 0.5 + 0.05 * fbm),
        "boards": (grain, (0.42 + 0.16 * grain) * (1 - 0.6 * edge(x, 8, 0.03))),
        "stone": (cell, (0.35 + 0.25 * fbm) * np.clip(0.4 + 6 * cells, 0, 1)),
        "dirt": (fbm, 0.3 + 0.25 * fbm + 0.2 * fine),
        "herringbone": (0.5 * bone + 0.4 * np.where(bone, grain, grain.T), 0.4 + 0.15 * np.where(bone, grain, grain.T)),
    }
    return np.stack([np.stack(table[k], -1) for k in SURFACES]).astype(np.float32)


@cache
def noise_texture() -> np.ndarray:
    """(256, 256, 4) tileable: wrinkle slopes along x and y (unit variance), cloudy noise and fine noise in [0, 1]."""
    rng = np.random.default_rng(303)
    folds = _fbm(rng, SIZE, 2.0, (1.0, 1.0)) + 0.7 * _fbm(rng, SIZE, 2.2, (1.0, 2.5))
    dy, dx = (np.roll(folds, -1, a) - np.roll(folds, 1, a) for a in (0, 1))
    return np.stack([dx / dx.std(), dy / dy.std(), _fbm(rng, SIZE, 1.5), _fbm(rng, SIZE, 0.35)], -1).astype(np.float32)
