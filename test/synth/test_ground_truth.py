"""The ground truth is true: every modality agrees with the others and with the known motion."""

import numpy as np
import pytest

from thfm_ros.geometry import Intrinsics, normals_from_depth, project, unproject
from thfm_ros.skeleton import JOINT_SETS
from thfm_ros.synth.clip import studio
from thfm_ros.synth.sample import Clip

JOINTS = JOINT_SETS["thfm32"].joints


def camera(clip: Clip, t: int) -> Intrinsics:
    return Intrinsics.from_matrix(clip.intrinsics[t], clip.rgb.shape[2], clip.rgb.shape[1])


def eroded(mask: np.ndarray, steps: int = 2) -> np.ndarray:
    for _ in range(steps):
        m = np.pad(mask, 1, constant_values=False)
        mask = m[1:-1, 1:-1] & m[:-2, 1:-1] & m[2:, 1:-1] & m[1:-1, :-2] & m[1:-1, 2:]
    return mask


def continuous(depth: np.ndarray) -> np.ndarray:
    """(H, W) bool: no edge of an object within a pixel or two."""
    inverse = np.pad(1 / depth, 2, mode="edge")
    height, width = depth.shape
    around = np.stack(
        [inverse[2 + dy : 2 + dy + height, 2 + dx : 2 + dx + width] for dy in (-2, 0, 2) for dx in (-2, 0, 2)]
    )
    return around.max(0) - around.min(0) < 0.1 * around.mean(0)


def bilinear(image: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Values of an image (H, W) at continuous pixels (N, 2)."""
    p = pixels - 0.5
    i = np.floor(p).astype(int)
    fx, fy = (p - i).T
    x, y = i.T
    top = image[y, x] * (1 - fx) + image[y, x + 1] * fx
    low = image[y + 1, x] * (1 - fx) + image[y + 1, x + 1] * fx
    return top * (1 - fy) + low * fy


def angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.degrees(np.arccos(np.clip((a * b).sum(-1), -1, 1)))


def test_depth_of_static_scenery_reprojects_into_the_next_frame(clips):
    checked = 0
    for clip in clips:
        for t in range(len(clip.rgb) - 1):
            still = eroded((clip.alpha[t] == 0) & np.isfinite(clip.depth[t])) & continuous(clip.depth[t])
            points = unproject(np.where(still, clip.depth[t], 1.0), camera(clip, t))[still]
            a, b = (np.linalg.inv(clip.world_to_camera[k].astype(float)) for k in (t, t + 1))
            move = np.linalg.inv(b) @ a
            moved = points @ move[:3, :3].T + move[:3, 3]
            pixels = project(moved, camera(clip, t + 1))
            height, width = still.shape
            inside = (pixels > 1).all(1) & (pixels[:, 0] < width - 1) & (pixels[:, 1] < height - 1)
            x, y = pixels[inside].astype(int).T
            background = (eroded(clip.alpha[t + 1] == 0) & continuous(clip.depth[t + 1]))[y, x]
            seen = bilinear(1 / clip.depth[t + 1], pixels[inside]) * moved[inside, 2]
            error = (seen - 1)[background]
            if len(error) > 500:
                # 1 / z is linear on planes, so it is exact there; still things may hide behind nearer ones as the
                # camera moves, but they cannot vanish.
                assert np.median(np.abs(error)) < 1e-4
                assert (np.abs(error) < 0.01).mean() > 0.9
                assert (error < -0.01).mean() < 0.03
                checked += 1
    assert checked >= 4


def test_normals_agree_with_depth_gradients(clips):
    for clip in clips:
        depth = np.where(np.isfinite(clip.depth[0]), clip.depth[0], np.nan)
        expected = normals_from_depth(depth, camera(clip, 0))
        for mask, limit in ((clip.human_mask[0], 14.0), ((clip.alpha[0] == 0) & np.isfinite(clip.depth[0]), 1.0)):
            ok = eroded(mask) & np.isfinite(expected).all(-1)
            if ok.sum() > 200:
                assert np.median(angles(clip.normals[0][ok], expected[ok])) < limit


def test_normals_are_unit_and_face_the_camera(clips):
    for clip in clips:
        solid = np.isfinite(clip.depth)
        assert np.allclose(np.linalg.norm(clip.normals[solid], axis=-1), 1, atol=1e-3)
        assert (clip.normals[~solid] == 0).all()
        rays = np.stack([unproject(np.ones(solid.shape[1:]), camera(clip, t)) for t in range(len(solid))])
        assert ((clip.normals * rays).sum(-1)[solid] <= 1e-4).all()


def test_keypoints_project_onto_the_person(clips):
    hits = []
    for clip in clips:
        for t in range(len(clip.rgb)):
            pixels = project(clip.keypoints_3d[t], camera(clip, t))
            assert np.allclose(pixels, clip.keypoints_2d[t], atol=0.05)
            shown = clip.visibility[t] == 1
            x, y = clip.keypoints_2d[t][shown].astype(int).T
            wide = np.pad(clip.alpha[t], 2)
            near = np.max([wide[2 + dy :, 2 + dx :][y, x] for dy in (-2, 0, 2) for dx in (-2, 0, 2)], axis=0)
            hits.append(near > 0)
    assert np.concatenate(hits).mean() > 0.97


def test_visibility_states(clips):
    for clip in clips:
        height, width = clip.rgb.shape[1:3]
        inside = ((clip.keypoints_2d >= 0) & (clip.keypoints_2d < [width, height])).all(-1)
        assert set(np.unique(clip.visibility)) <= {0.0, 0.5, 1.0}
        assert ((clip.visibility > 0) == inside).all()


def test_dense_pose_is_constant_on_the_body(clips, assets):
    """Wherever a joint shows, in whatever pose and frame, the canonical coordinate there is near the joint's own."""
    s = studio(assets)
    body = s.body
    still = np.tile(np.eye(3, dtype=np.float32), (1, len(body.bones), 1, 1))
    from thfm_ros.synth.body import Identity

    template = Identity(body.template, body.template_heads, 0.5, 0.6, np.ones(3) / 3, 0.0)
    rest = body.keypoints(template, still, np.zeros((1, len(body.bones), 3), np.float32), body.template_heads[None])[0]
    expected = (rest - s.canon_low) * s.canon_scale
    surface = [JOINTS.index(n) for n in ("nose", "left_eye", "right_eye")]
    inner = [
        JOINTS.index(n) for n in ("left_knee", "right_knee", "left_elbow", "right_elbow", "left_ankle", "right_ankle")
    ]
    errors = {"surface": [], "inner": []}
    for clip in clips:
        for t in range(len(clip.rgb)):
            for name, rows in (("surface", surface), ("inner", inner)):
                for k in rows:
                    if clip.visibility[t, k] == 1:
                        x, y = clip.keypoints_2d[t, k].astype(int)
                        found = clip.dense_pose[t, y, x]
                        depth_gap = abs(clip.depth[t, y, x] - clip.keypoints_3d[t, k, 2])
                        if found.any() and depth_gap < 0.1:
                            errors[name].append(np.linalg.norm(found - expected[k]) / s.canon_scale)
    assert len(errors["surface"]) > 5
    assert np.median(errors["surface"]) < 0.03  # metres of the template
    assert np.median(errors["inner"]) < 0.12


def test_dense_pose_and_parts_live_on_people_only(clips):
    for clip in clips:
        assert (clip.dense_pose[~clip.human_mask] == 0).all()
        assert (clip.parts[~clip.human_mask] == 0).all()
        assert (clip.parts[clip.human_mask] > 0).all()
        assert clip.dense_pose.min() >= 0
        assert clip.dense_pose.max() <= 1


def test_alpha_is_soft_at_edges_only(clips):
    for clip in clips:
        soft = (clip.alpha > 0) & (clip.alpha < 1)
        assert soft.sum() > 30
        assert len(np.unique(clip.alpha)) > 4
        inner = np.stack([eroded(a == 1, 1) for a in clip.alpha])
        assert not (soft & inner).any()
        assert soft.sum() < 0.6 * (clip.alpha > 0).sum()


def test_colour_and_truth_are_aligned_to_the_sub_pixel(clips):
    """The edge of the matte correlates best with the edges of the colour at zero shift, to a fraction of a pixel."""

    def edges(x: np.ndarray) -> np.ndarray:
        gy, gx = np.gradient(x)
        return np.hypot(gx, gy)

    offsets = []
    for clip in clips:
        grey = edges(clip.rgb[0].astype(float).mean(-1))
        matte = edges(clip.alpha[0].astype(float))
        for axis in (0, 1):
            score = [(np.roll(grey, s, axis) * matte)[4:-4, 4:-4].sum() for s in (-2, -1, 0, 1, 2)]
            best = int(np.argmax(score[1:4])) + 1
            a, b, c = score[best - 1 : best + 2]
            offsets.append(best - 2 + 0.5 * (a - c) / (a - 2 * b + c))
    assert np.abs(np.median(offsets)) < 0.25  # of six clips; half a pixel would be 0.5
    assert np.mean(np.abs(offsets) < 0.5) > 0.8


def test_human_views_are_the_scene_where_the_person_is(clips):
    clip = clips[0]
    m = clip.human_mask
    assert (clip.human_depth[m] == clip.depth[m]).all()
    assert np.isinf(clip.human_depth[~m]).all()
    assert (clip.human_normals[m] == clip.normals[m]).all()
    assert (clip.human_normals[~m] == 0).all()


@pytest.mark.parametrize("side", ["left", "right"])
def test_left_and_right_are_the_persons_own(clips, side):
    """In canonical coordinates x grows to the person's left: left parts lie at larger x."""
    from thfm_ros.synth.body import PARTS

    rows = [PARTS.index(p) for p in PARTS if p.startswith(side) and "leg" not in p]
    values = np.concatenate([c.dense_pose[np.isin(c.parts, rows)][:, 0] for c in clips])
    assert ((values > 0.5) == (side == "left")).mean() > 0.98
