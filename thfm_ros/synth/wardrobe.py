"""Where garments, hair and shoes lie on the body: scalar fields on the template, computed once.

Every field is in metres of the template and positive inside. A garment keeps what is positive; the rasteriser cuts
at zero per pixel, so hems are straight however coarse the mesh is.
"""

from __future__ import annotations

import numpy as np

from thfm_ros.synth.body import PARTS, Body
from thfm_ros.synth.mesh import grid, nearest, vertex_normals


class Wardrobe:
    """Fields and rest displacements over the template's vertices (V,)."""

    def __init__(self, body: Body) -> None:
        self.body = body
        t = body.template
        head = {n: body.template_heads[i] for n, i in body.index.items()}
        self.is_arm = np.isin(body.parts, [PARTS.index(p) for p in PARTS if "arm" in p or "hand" in p])
        self.is_foot = np.isin(body.parts, [PARTS.index(p) for p in PARTS if "foot" in p])
        self.is_head = body.parts == PARTS.index("head")
        self.arm = self._arm_coordinate(t, head)
        self.scalp = self._scalp(t)
        self.beard = self._beard(t)
        self.normals = {name: vertex_normals(t, body.faces[name]) for name in ("body", "tights", "skirt")}
        self.shoes, self.shoes_source, self.shoes_faces = self._shoes()
        self.curtain, self.curtain_source, self.curtain_faces = self._curtain()
        self.eye_centres = {s: head[f"eye.{s}"] for s in "LR"}
        self.masks = {k[5:]: body.data[k].astype(np.float32) / 255 for k in body.data if k.startswith("mask_")}

    def _arm_coordinate(self, t: np.ndarray, head: dict[str, np.ndarray]) -> np.ndarray:
        """Metres along the arm from the shoulder; negative towards the torso."""
        p = t * np.array([1, 1, 1])
        p[:, 0] = np.abs(p[:, 0])
        shoulder, elbow, wrist = (head[n] for n in ("upperarm01.L", "lowerarm01.L", "wrist.L"))
        upper, lower = elbow - shoulder, wrist - elbow
        length = np.linalg.norm(upper)
        along = (p - shoulder) @ (upper / length)
        beyond = (p - elbow) @ (lower / np.linalg.norm(lower))
        arm = np.minimum(along, length) + np.where(along > length * 0.8, np.maximum(beyond, 0), 0)
        return np.where(self.is_arm, arm, np.minimum(arm, 0.0))

    def _scalp(self, t: np.ndarray) -> np.ndarray:
        """Above the hairline: slanted from the forehead to the nape, bare at the temples, sideburns before the ears;
        ears left out."""
        side = np.clip((np.abs(t[:, 0]) - 0.045) / 0.015, 0, 1)
        bump = lambda y, wide: np.exp(-(((t[:, 1] - y) / wide) ** 2))  # noqa: E731
        line = 0.972 - 0.66 * (t[:, 1] + 0.15) - 0.015 * np.clip((t[:, 1] - 0.01) / 0.05, 0, 1)
        line += side * (0.018 * bump(-0.095, 0.018) - 0.04 * bump(-0.056, 0.013))
        temple = np.maximum(np.abs(t[:, 0]) - 0.05, 0) * np.where(t[:, 1] < -0.07, -0.5, 0)  # rounder at the temples
        field = (t[:, 2] - line) * 0.83 + temple
        ear = self.body.data["mask_ears"].astype(np.float32) / 255
        return np.where(self.is_head | (t[:, 2] > 0.8), field - 0.06 * ear, -1).astype(np.float32)

    def _beard(self, t: np.ndarray) -> np.ndarray:
        """Jaw, chin and moustache without the lips."""
        x, y, z = np.abs(t[:, 0]), t[:, 1], t[:, 2]
        jaw = np.minimum(0.838 + 0.45 * np.maximum(y + 0.13, 0) - z, np.minimum(z - 0.765, -(y + 0.035)))
        moustache = 0.011 - np.hypot((x - 0.012) * 0.42, z - 0.8455)
        moustache = np.where(y < -0.12, moustache, -1)
        lips = self.body.data["mask_lips"].astype(np.float32) / 255
        return np.where(self.is_head, np.maximum(jaw, moustache) - 0.05 * lips, -1).astype(np.float32)

    def _shoes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A pair of shoes around the template's feet: positions (N, 3) with soles at the feet's lowest point, the
        vertices they follow (N,), faces. Sections across the foot from heel to toe, flat below and round above."""
        t = self.body.template
        rows, around = 26, 25
        used = np.unique(self.body.faces["body"])
        feet = used[(t[used, 2] < -0.7) & ~self.is_arm[used]]
        floor = float(t[feet, 2].min())
        parts = []
        for sign in (1, -1):
            foot = t[feet[t[feet, 0] * sign > 0]]
            heel, toe = foot[:, 1].max(), foot[:, 1].min()
            y = np.linspace(heel, toe, rows)
            inside = [foot[np.abs(foot[:, 1] - v) < 0.014] for v in y]
            low, high = np.array([p[:, 0].min() for p in inside]), np.array([p[:, 0].max() for p in inside])
            top = np.minimum(np.array([p[:, 2].max() for p in inside]), -0.732)
            low, high, top = (np.convolve(np.pad(v, 2, mode="edge"), np.ones(5) / 5, "valid") for v in (low, high, top))
            end = np.linspace(0, 1, rows)
            rounding = np.minimum(1, np.minimum((end + 0.015) / 0.1, (1.015 - end) / 0.14)) ** 0.5
            centre, half = (low + high) / 2, ((high - low) / 2 + 0.007) * rounding
            height = (top + 0.009 - floor) * np.minimum(1, 0.35 + 0.65 * rounding)
            length = (y - y.mean()) * 1.05 + y.mean()
            angle = np.linspace(0, 2 * np.pi, around)
            x = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** 0.7
            up = np.where(np.sin(angle) > 0, np.abs(np.sin(angle)) ** 0.8, 0.0)
            section = np.stack(
                [
                    centre[:, None] + half[:, None] * x * (1 - 0.25 * up),
                    np.broadcast_to(length[:, None], (rows, around)),
                    floor + height[:, None] * up,
                ],
                -1,
            )
            ends = section[[0, -1]].mean(1, keepdims=True) + np.zeros((2, around, 1))
            parts.append(np.concatenate([ends[:1], section, ends[1:]]).reshape(-1, 3))
        points = np.concatenate(parts).astype(np.float32)
        follow = feet[nearest(points, t[feet])]
        one = grid(rows + 2, around)
        return points, follow, np.concatenate([one, one + len(parts[0])]).astype(np.int32)

    def _curtain(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Long hair as one sheet around the back of the head, down over the shoulders: template positions (N, 3), the
        body vertices they follow (N,), faces. Open at the face; pushed out of the body."""
        t = self.body.template
        rows, columns = 22, 41
        z = np.linspace(0.965, 0.36, rows)[:, None]
        angle = np.linspace(-1, 1, columns)[None] * np.interp(z, [0.6, 0.75, 0.86, 0.95], [1.75, 1.9, 1.95, 1.6])
        knots = [0.36, 0.66, 0.74, 0.80, 0.87, 0.93, 0.965]
        rx = np.interp(z, knots, [0.15, 0.135, 0.105, 0.098, 0.1, 0.094, 0.075])
        ry = np.interp(z, knots, [0.13, 0.12, 0.105, 0.108, 0.118, 0.116, 0.1])
        cy = np.interp(z, knots, [0.0, -0.01, -0.025, -0.035, -0.04, -0.045, -0.045])
        wave = 1 + 0.025 * np.sin(9 * angle + 14 * z)
        p = np.stack([rx * wave * np.sin(angle), cy + ry * wave * np.cos(angle), z + 0 * angle], -1).reshape(-1, 3)
        body = np.unique(self.body.faces["body"])
        body = body[~self.is_arm[body] | (t[body, 2] > 0.55)]
        normals = self.normals["body"][body]
        for _ in range(3):
            near = nearest(p, t[body])
            gap = ((p - t[body][near]) * normals[near]).sum(1)
            p += normals[near] * np.clip(0.014 - gap, 0, 0.06)[:, None]
        still = np.array([0.0, 0.05, 0.88])  # hair above the neck moves with the head, not with the neck's skin
        follow = body[near]
        skull = int(np.argmin(((t - still) ** 2).sum(1) + 9 * ~self.is_head))
        follow = np.where(p[:, 2] > 0.78, skull, follow)
        return p.astype(np.float32), follow, grid(rows, columns)

    def top(self, sleeve: float, hem: float, neck: float, depth: float) -> np.ndarray:
        """sleeve: metres along the arm; hem: height z; neck: radius of the opening, 0 for a turtleneck; depth: how much
        further the opening reaches down in front (a scoop or a V)."""
        t = self.body.template
        below = np.minimum(t[:, 2] - 0.755, 0) / (1 + depth * np.clip(-(t[:, 1] + 0.0) / 0.05, 0, 1))
        wide = t[:, 0] * (1 + 0.25 * depth * np.clip(-below / 0.08, 0, 2))  # deep openings narrow to a V
        opening = np.sqrt(wide**2 + (t[:, 1] + 0.01) ** 2 + below**2) - neck if neck > 0 else 0.3
        field = np.minimum(np.minimum(sleeve - self.arm, t[:, 2] - hem), opening)
        return np.where(self.is_head | (t[:, 2] > 0.84), -1, field).astype(np.float32)

    def bottom(self, waist: float, end: float) -> np.ndarray:
        z = self.body.template[:, 2]
        return np.where(self.is_arm, -0.3, np.minimum(waist - z, z - end)).astype(np.float32)

    def shoe(self, height: float) -> np.ndarray:
        z = self.body.template[:, 2]
        return np.where(self.is_arm, -0.3, height - z).astype(np.float32)
