"""When the recorder starts to hear the camera: only after it can hear what is answered to it."""

from __future__ import annotations

from node_harness import System, wait_for
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

from thfm_ros.nodes.recorder_node import RecorderNode


def recorder(ros: System, *topics: str) -> RecorderNode:
    node = RecorderNode(context=ros.context, parameter_overrides=[Parameter("topics", value=list(topics))])
    ros.extra.append(node)
    ros.executor.add_node(node)
    return node


def test_the_camera_is_heard_once_every_output_has_its_publisher(ros: System) -> None:
    node = recorder(ros, "image", "normals/image", "foreground/image")
    ros.listener.create_publisher(Image, "normals/image", QoSProfile(depth=5))
    wait_for(lambda: node.subscribed["normals/image"].get_publisher_count() == 1)
    assert "image" not in node.subscribed  # a camera that counts its subscribers still waits
    ros.listener.create_publisher(Image, "foreground/image", QoSProfile(depth=5))
    wait_for(
        lambda: "image" in node.subscribed and ros.images.get_subscription_count() == 1, what="the camera's subscriber"
    )
    assert node.subscribed["foreground/image"].get_publisher_count() == 1


def test_an_output_that_nobody_publishes_does_not_hold_up_the_rest(ros: System) -> None:
    node = recorder(ros, "image", "normals/image", "foreground/image")
    ros.listener.create_publisher(Image, "normals/image", QoSProfile(depth=5))
    wait_for(lambda: "image" in node.subscribed, what="the end of the wait")
    assert node.subscribed["foreground/image"].get_publisher_count() == 0


def test_a_recorder_of_inputs_alone_waits_for_nothing(ros: System) -> None:
    node = recorder(ros, "image", "camera_info")
    wait_for(lambda: set(node.subscribed) == {"image", "camera_info"})
