import numpy as np
import pytest

from thfm_ros.errors import UserError
from thfm_ros.evaluate.predictors import upright_skeleton
from thfm_ros.skeleton import JOINT_SETS, convert, mapping

MARKED = ("shoulder", "elbow", "hip")  # COCO's annotators mark them beside the body model's


@pytest.mark.parametrize("name", JOINT_SETS)
def test_flip_is_an_involution_that_keeps_bones(name):
    joints = JOINT_SETS[name]
    flip = joints.flip
    assert [flip[flip[i]] for i in range(len(joints))] == list(range(len(joints)))
    bones = {frozenset(b) for b in joints.bones}
    assert {frozenset((flip[a], flip[b])) for a, b in bones} == bones


@pytest.mark.parametrize("name", JOINT_SETS)
def test_bones_connect_every_joint(name):
    joints = JOINT_SETS[name]
    reached, grown = {0}, True
    while grown:
        grown = False
        for a, b in joints.bones:
            if (a in reached) != (b in reached):
                reached |= {a, b}
                grown = True
    assert len(reached) == len(joints)


@pytest.mark.parametrize("target", JOINT_SETS)
def test_superset_gives_every_set(target):
    weights = mapping("thfm32", target)
    np.testing.assert_allclose(weights.sum(1), 1)
    assert (weights >= 0).all()
    points = np.random.default_rng(0).normal(size=(5, 32, 3))
    out = convert(points, "thfm32", target)
    moved = MARKED if target in ("coco17", "hri18") else ()
    for i, joint in enumerate(JOINT_SETS[target].joints):
        if joint in JOINT_SETS["thfm32"].joints and not joint.endswith(moved):
            np.testing.assert_array_equal(out[:, i], points[:, JOINT_SETS["thfm32"].index(joint)])


def test_coco_body_joints_have_the_published_smpl_indices():
    smpl = JOINT_SETS["smpl24"]
    expected = [16, 17, 18, 19, 20, 21, 1, 2, 4, 5, 7, 8]
    assert [smpl.index(j) for j in JOINT_SETS["coco17"].joints[5:]] == expected


@pytest.mark.parametrize("target", JOINT_SETS)
def test_a_mirrored_person_has_mirrored_joints(target):
    weights = mapping("thfm32", target)
    mirrored = weights[:, JOINT_SETS["thfm32"].flip]
    np.testing.assert_array_equal(weights[list(JOINT_SETS[target].flip)], mirrored)


@pytest.mark.parametrize("target", ["coco17", "hri18"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_coco_marks_shoulders_and_elbows_higher_and_hips_lower(target, side):
    body = upright_skeleton()
    marked = convert(body, "thfm32", target)
    source, joints = JOINT_SETS["thfm32"], JOINT_SETS[target]
    trunk = body[source.index(f"{side}_hip"), 1] - body[source.index(f"{side}_shoulder"), 1]
    moved = {j: (marked[joints.index(f"{side}_{j}"), 1] - body[source.index(f"{side}_{j}"), 1]) / trunk for j in MARKED}
    assert -0.15 < moved["shoulder"] < -0.03
    assert -0.10 < moved["elbow"] < 0
    assert 0.02 < moved["hip"] < 0.10


def test_coco_and_hri_agree():
    points = np.random.default_rng(2).normal(size=(32, 2))
    direct = convert(points, "thfm32", "hri18")
    np.testing.assert_allclose(convert(convert(points, "thfm32", "coco17"), "coco17", "hri18"), direct)


def test_hri_neck_is_between_the_shoulders():
    points = np.random.default_rng(1).normal(size=(32, 2))
    hri = convert(points, "thfm32", "hri18")
    left, right = (JOINT_SETS["hri18"].index(f"{side}_shoulder") for side in ("left", "right"))
    middle = (hri[left] + hri[right]) / 2
    np.testing.assert_allclose(hri[1], middle)


def test_impossible_conversion_names_the_joints():
    with pytest.raises(UserError, match=r"smpl24.*cannot give nose, left_eye"):
        mapping("smpl24", "coco17")


def test_wrong_joint_count_is_refused():
    with pytest.raises(ValueError, match=r"\(\.\.\., 32, D\)"):
        convert(np.zeros((17, 3)), "thfm32", "coco17")


def test_pixels_may_be_whole_numbers() -> None:
    points = np.arange(64, dtype=np.int32).reshape(32, 2) + 100
    for target in ("coco17", "hri18"):
        np.testing.assert_allclose(convert(points, "thfm32", target), convert(points.astype(float), "thfm32", target))
