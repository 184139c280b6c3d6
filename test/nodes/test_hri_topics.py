"""REP-155 topics of the running node."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import optional_messages
import pytest
from bodies import relative_to_pelvis
from geometry_msgs.msg import PointStamped, TwistStamped
from node_harness import System, stamp_of, wait_for
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import String
from stream_fakes import FakeRuntime

hri_msgs = optional_messages.provide("hri_msgs")


def test_bodies_are_listed_and_each_has_its_topics(ros: System) -> None:
    ros.perception()
    tracked = ros.listen(hri_msgs.IdsList, "/humans/bodies/tracked")
    stamps = ros.play(range(2), tracked)
    identity = tracked[-1].ids[0]
    rois = ros.listen(hri_msgs.NormalizedRegionOfInterest2D, f"/humans/bodies/{identity}/roi")
    skeletons = ros.listen(hri_msgs.Skeleton2D, f"/humans/bodies/{identity}/skeleton2d")
    stamps += ros.play(range(2, 4), skeletons)
    wait_for(lambda: len(rois) == 2 and len(tracked) == 4)
    assert [stamp_of(m) for m in tracked] == stamps
    assert [stamp_of(m) for m in skeletons] == [stamp_of(m) for m in rois] == stamps[2:]
    assert all(message.ids == [identity] for message in tracked)
    assert len(skeletons[-1].skeleton) == 18
    assert 0 <= rois[-1].xmin < rois[-1].xmax <= 1
    assert 0 <= rois[-1].ymin < rois[-1].ymax <= 1


def test_a_body_has_its_picture_posture_place_and_speed(ros: System) -> None:
    """Walking towards the camera at 0.6 m/s, seen from the front: forward is x."""
    runtime = FakeRuntime(body=relative_to_pelvis(degrees=180.0))
    ros.perception(runtime, joint_noise_m=0.0)
    tracked = ros.listen(hri_msgs.IdsList, "/humans/bodies/tracked")
    ros.play([0], tracked)
    (identity,) = tracked[-1].ids
    base = f"/humans/bodies/{identity}"
    kinds = {"cropped": Image, "joint_states": JointState, "position": PointStamped, "velocity": TwistStamped}
    heard = {name: ros.listen(kind, f"{base}/{name}") for name, kind in kinds.items()}
    stamps = []
    for i in range(1, 13):
        runtime.root = (0.1, -0.05, 3.0 - 0.05 * i)
        stamps += ros.play([i], heard["velocity"])
    wait_for(lambda: all(len(messages) == 12 for messages in heard.values()))
    for name, messages in heard.items():
        assert [stamp_of(m) for m in messages] == stamps, name
    speed = heard["velocity"][-1]
    assert speed.header.frame_id == f"body_{identity}"
    assert speed.twist.linear.x == pytest.approx(0.6, abs=0.1)
    assert abs(speed.twist.linear.y) < 0.05
    place = heard["position"][-1]
    assert (place.header.frame_id, place.point.z) == ("camera_optical_frame", pytest.approx(2.4, abs=0.05))
    picture = heard["cropped"][-1]
    assert picture.encoding == "rgb8"
    assert 0 < picture.width < picture.height
    qos = ros.latched(String, f"{base}/urdf")  # published once, before anybody listened
    wait_for(lambda: qos, what="the latched URDF")
    joints = {j.attrib["name"] for j in ElementTree.fromstring(qos[0].data).findall("joint[@type='revolute']")}
    states = heard["joint_states"][-1]
    assert set(states.name) == joints
    assert np.isfinite(states.position).all()


def test_a_camera_that_falls_silent_leaves_no_body(ros: System) -> None:
    ros.perception(gap_s=0.3)
    tracked = ros.listen(hri_msgs.IdsList, "/humans/bodies/tracked")
    ros.play([0], tracked)
    (identity,) = tracked[0].ids
    wait_for(lambda: len(tracked) == 2, what="an empty list")
    assert tracked[1].ids == []
    wait_for(lambda: ros.listener.count_publishers(f"/humans/bodies/{identity}/roi") == 0)


def test_two_nodes_share_one_list_of_bodies(ros: System) -> None:
    """Whoever reads the list takes the newest message for all of it: each node's list has the other's bodies too."""
    runtimes = [FakeRuntime(), FakeRuntime()]
    nodes, cameras = [], []
    for i, runtime in enumerate(runtimes):
        node = ros.perception(runtime, name=f"perception_{i}", namespace=f"/eye{i}", gap_s=60.0, autostart=False)
        node.trigger_configure()
        node.trigger_activate()
        images = ros.camera.create_publisher(Image, f"/eye{i}/image", 50)
        infos = ros.camera.create_publisher(CameraInfo, f"/eye{i}/camera_info", 50)
        wait_for(lambda images=images: images.get_subscription_count() == 1)
        nodes.append(node)
        cameras.append((images, infos))
    tracked = ros.listen(hri_msgs.IdsList, "/humans/bodies/tracked")

    def play(camera: int, index: int) -> list[str]:
        ros.images, ros.infos = cameras[camera]
        ros.play([index], tracked)
        return sorted(tracked[-1].ids)

    (first,) = play(0, 0)
    both = play(1, 0)
    assert len(both) == 2
    assert first in both
    wait_for(lambda: ros.listener.count_publishers(f"/humans/bodies/{both[0]}/roi") == 1)
    assert play(0, 1) == play(1, 1) == both
    runtimes[0].visibility = 0.05
    assert play(0, 2) == [i for i in both if i != first] == play(1, 2)
    nodes[1].trigger_deactivate()
    wait_for(lambda: tracked[-1].ids == [], what="the last body to be gone")
    assert play(0, 3) == []
