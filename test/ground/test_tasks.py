import numpy as np
import pytest
import torch

from thfm_ros.errors import UserError
from thfm_ros.tasks import TASKS, dense_task_names, get_task, normalise_disparity, sparse_task_names

RNG = np.random.default_rng(0)


def unit_normals(shape):
    n = RNG.normal(size=(*shape, 3)).astype(np.float32)
    return n / np.linalg.norm(n, axis=-1, keepdims=True)


PHYSICAL = {
    "depth": RNG.random((2, 4, 5), dtype=np.float32),
    "foreground": RNG.random((2, 4, 5), dtype=np.float32),
    "normals": unit_normals((2, 4, 5)),
    "instances": RNG.random((2, 4, 5, 3), dtype=np.float32),
    "dense_pose": RNG.random((2, 4, 5, 3), dtype=np.float32),
}


@pytest.mark.parametrize("name", dense_task_names())
@pytest.mark.parametrize("to_array", [np.asarray, torch.as_tensor])
def test_codec_round_trip(name, to_array):
    codec = get_task(name).codec
    x = to_array(PHYSICAL[codec.name])
    rgb = codec.to_rgb(x)
    assert rgb.shape == (2, 4, 5, 3)
    assert float(rgb.min()) >= -1 - 1e-6
    assert float(rgb.max()) <= 1 + 1e-6
    np.testing.assert_allclose(np.asarray(codec.from_rgb(rgb)), np.asarray(x), atol=1e-6)


def test_registry_is_complete_and_prompts_differ():
    assert set(dense_task_names()) | set(sparse_task_names()) == set(TASKS)
    prompts = [p for t in TASKS.values() for p in t.prompts]
    assert len(set(prompts)) == len(prompts)


def test_unknown_task_names_the_known_ones():
    with pytest.raises(UserError, match=r"'depht'.*scene_depth.*keypoints_3d"):
        get_task("depht")


def test_short_normals_are_background():
    codec = get_task("human_normals").codec
    rgb = np.array([[0.0, 0, 0], [0.1, 0.2, -0.3], [0, 0, -0.8]], np.float32)[None]
    np.testing.assert_allclose(codec.from_rgb(rgb)[0], [[0, 0, 0], [0, 0, 0], [0, 0, -1]])


@pytest.mark.parametrize("to_array", [np.asarray, torch.as_tensor])
def test_normalise_disparity_inverts(to_array):
    z = RNG.uniform(1, 5, (3, 4, 4)).astype(np.float32)
    mask = RNG.random((3, 4, 4)) > 0.3
    d, scale, shift = normalise_disparity(to_array(z), to_array(mask))
    d = np.asarray(d)
    assert (d[~mask] == 0).all()
    assert d.max() == pytest.approx(1)
    assert d[mask].min() == pytest.approx(0)
    np.testing.assert_allclose(scale * d[mask] + shift, 1 / z[mask], rtol=1e-5)


def test_sky_is_the_far_end_and_holes_are_invalid():
    z = np.array([[[1.0, 2.0, np.inf, np.nan, 0.0]]])
    d, scale, shift = normalise_disparity(z)
    np.testing.assert_allclose(d, [[[1, 0.5, 0, 0, 0]]])
    assert (scale, shift) == (1.0, 0.0)


def test_empty_clip_has_no_disparity():
    d, scale, shift = normalise_disparity(np.ones((1, 2, 2)), np.zeros((1, 2, 2), bool))
    assert not d.any()
    assert (scale, shift) == (0.0, 0.0)
