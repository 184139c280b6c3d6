"""The node's topics as reviewed data: names, types, quality of service, and which tasks they need."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from rclpy.qos import QoSDurabilityPolicy, QoSHistoryPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

from thfm_ros.tasks import TASKS

QosName = Literal["sensor", "reliable"]


def profile(name: QosName, depth: int) -> QoSProfile:
    """sensor: best effort, for input; reliable: for output (RViz asks for it, and it serves best-effort readers too).

    A new object each time, because rclpy writes overrides into it.
    """
    reliability = QoSReliabilityPolicy.BEST_EFFORT if name == "sensor" else QoSReliabilityPolicy.RELIABLE
    return QoSProfile(
        history=QoSHistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=reliability,
        durability=QoSDurabilityPolicy.VOLATILE,
    )


def latched() -> QoSProfile:
    """For what was published once, maybe before this node: reliable, and the last messages again for late comers."""
    qos = profile("reliable", 5)
    qos.durability = QoSDurabilityPolicy.TRANSIENT_LOCAL
    return qos


def overridable() -> QoSOverridingOptions:
    """Users change history, depth and reliability by `qos_overrides.<topic>.<publisher|subscription>.*`."""
    return QoSOverridingOptions.with_default_policies()


@dataclass(frozen=True)
class Topic:
    """One topic. `optional` ones exist only where a parameter or a package asks for them."""

    name: str
    type: str
    qos: QosName
    depth: int
    description: str
    optional: str = ""


SUBSCRIBED = (
    Topic("image", "sensor_msgs/Image", "sensor", 5, "colour camera", "image_transport = raw"),
    Topic(
        "image/compressed",
        "sensor_msgs/CompressedImage",
        "sensor",
        5,
        "colour camera, JPEG or PNG",
        "image_transport = compressed",
    ),
    Topic("camera_info", "sensor_msgs/CameraInfo", "sensor", 5, "its calibration, also latched; without it no metres"),
    Topic(
        "depth_camera/image",
        "sensor_msgs/Image",
        "sensor",
        5,
        "depth registered to the colour image, 32FC1 m or 16UC1 mm",
        "use_depth_camera",
    ),
    Topic(
        "depth_camera/camera_info",
        "sensor_msgs/CameraInfo",
        "sensor",
        5,
        "the depth image's calibration, which has to be the colour image's but for the size; not needed",
        "use_depth_camera",
    ),
)

PUBLISHED = (
    Topic(
        "depth/image",
        "sensor_msgs/Image",
        "reliable",
        5,
        "32FC1, metres along z, +inf too far, NaN unknown; only with a person in view or a depth camera",
    ),
    Topic("depth/camera_info", "sensor_msgs/CameraInfo", "reliable", 5, "camera of depth/image, same stamp"),
    Topic("inverse_depth/image", "sensor_msgs/Image", "reliable", 5, "32FC1, inverse depth up to scale and shift"),
    Topic("normals/image", "sensor_msgs/Image", "reliable", 5, "32FC3, unit, optical frame, facing the camera (z < 0)"),
    Topic("normals/image_color", "sensor_msgs/Image", "reliable", 5, "rgb8 picture of the normals"),
    Topic("foreground/image", "sensor_msgs/Image", "reliable", 5, "mono8, soft mask of people, 255 = person"),
    Topic("dense_pose/image", "sensor_msgs/Image", "reliable", 5, "32FC3, body coordinates in [0, 1], 0 background"),
    Topic("dense_pose/image_color", "sensor_msgs/Image", "reliable", 5, "rgb8 picture of the body coordinates"),
    Topic("people", "thfm_ros/PersonArray", "reliable", 5, "people: joints in pixels and metres with confidence"),
    Topic("skeleton/markers", "visualization_msgs/MarkerArray", "reliable", 5, "3D skeletons for RViz"),
    Topic("overlay/image", "sensor_msgs/Image", "reliable", 5, "rgb8 picture: mask and 2D skeletons over the input"),
    Topic("~/stats", "diagnostic_msgs/DiagnosticArray", "reliable", 5, "latency by stage, ages, drops by reason"),
    Topic("/diagnostics", "diagnostic_msgs/DiagnosticArray", "reliable", 10, "rates, stamps, model, in standard keys"),
    Topic(
        "/humans/bodies/tracked",
        "hri_msgs/IdsList",
        "reliable",
        5,
        "ids of the bodies in view of this node and of the other perception nodes (REP-155)",
        "hri_msgs",
    ),
    Topic(
        "/humans/bodies/<id>/roi",
        "hri_msgs/NormalizedRegionOfInterest2D",
        "reliable",
        5,
        "box in the image (REP-155)",
        "hri_msgs",
    ),
    Topic(
        "/humans/bodies/<id>/skeleton2d",
        "hri_msgs/Skeleton2D",
        "reliable",
        5,
        "18 joints in the image (REP-155)",
        "hri_msgs",
    ),
)

# Topics that need more than the tasks that name them: the mask of the overlay, the metres of the depth.
_ALSO_NEEDS = {
    "overlay/image": ("foreground",),
    "depth/image": ("keypoints_3d",),
    "depth/camera_info": ("keypoints_3d",),
}


def topics_to_tasks(topics: Iterable[str], enabled: Iterable[str]) -> list[str]:
    """The enabled tasks that these topics need, in the order of TASKS."""
    topics, enabled = set(topics), set(enabled)
    needed = {name for name, task in TASKS.items() if topics & set(task.topics)}
    for topic in topics & set(_ALSO_NEEDS):
        needed |= set(_ALSO_NEEDS[topic])
    if any(t.startswith("/humans/") for t in topics):
        needed.add("keypoints_2d")
    return [name for name in TASKS if name in needed & enabled]
