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
    """One topic. `optional` ones exist only where a parameter or a package asks for them.

    `needs` are tasks beyond those that name the topic as theirs.
    """

    name: str
    type: str
    qos: QosName
    depth: int
    description: str
    optional: str = ""
    needs: tuple[str, ...] = ()


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

_POSE_2D, _POSE_3D = ("keypoints_2d",), ("keypoints_2d", "keypoints_3d")
_DEPTH = ("scene_depth", "human_depth", "keypoints_3d")  # and what gives it its metres


def _out(name: str, kind: str, description: str, optional: str = "", needs: tuple[str, ...] = ()) -> Topic:
    return Topic(name, kind, "reliable", 5, description, optional, needs)


def _body(name: str, kind: str, description: str, needs: tuple[str, ...]) -> Topic:
    return _out(f"/humans/bodies/<id>/{name}", kind, f"{description} (REP-155)", "hri_msgs", needs)


PUBLISHED = (
    _out(
        "depth/image",
        "sensor_msgs/Image",
        "32FC1, metres along z, +inf too far, NaN unknown; only with a person in view or a depth camera",
        needs=("keypoints_3d",),
    ),
    _out("depth/camera_info", "sensor_msgs/CameraInfo", "camera of depth/image, same stamp", needs=("keypoints_3d",)),
    _out(
        "depth/image/compressedDepth",
        "sensor_msgs/CompressedImage",
        "depth/image, as image_transport's plugin compresses it",
        needs=_DEPTH,
    ),
    _out("depth/points", "sensor_msgs/PointCloud2", "the depth as coloured points: x, y, z, rgb", needs=_DEPTH),
    _out("inverse_depth/image", "sensor_msgs/Image", "32FC1, inverse depth up to scale and shift"),
    _out("normals/image", "sensor_msgs/Image", "32FC3, unit, optical frame, facing the camera (z < 0)"),
    _out("normals/image_color", "sensor_msgs/Image", "rgb8 picture of the normals"),
    _out("foreground/image", "sensor_msgs/Image", "mono8, soft mask of people, 255 = person"),
    _out("foreground/image/compressed", "sensor_msgs/CompressedImage", "that mask as PNG", needs=("foreground",)),
    _out("dense_pose/image", "sensor_msgs/Image", "32FC3, body coordinates in [0, 1], 0 background"),
    _out("dense_pose/image_color", "sensor_msgs/Image", "rgb8 picture of the body coordinates"),
    _out(
        "instances/image",
        "sensor_msgs/Image",
        "mono16, at each pixel of a person their label in `people`",
        needs=_POSE_3D,
    ),
    _out("people", "thfm_ros/PersonArray", "everyone: id, box, joints in pixels and metres, velocity"),
    _out("people/detections_2d", "vision_msgs/Detection2DArray", "people as boxes", "vision_msgs", _POSE_2D),
    _out("people/detections_3d", "vision_msgs/Detection3DArray", "people as boxes in metres", "vision_msgs", _POSE_3D),
    _out("people/positions", "people_msgs/People", "where people are, and how they move", "people_msgs", _POSE_3D),
    _out(
        "~/people/target_pose",
        "geometry_msgs/PoseStamped",
        "the person to follow (parameter `follow`): root, and where they face",
        needs=_POSE_3D,
    ),
    _out("skeleton/markers", "visualization_msgs/MarkerArray", "3D skeletons for RViz"),
    _out(
        "overlay/image",
        "sensor_msgs/Image",
        "rgb8 picture: mask and 2D skeletons over the input",
        needs=("foreground",),
    ),
    _out(
        "overlay/image/compressed",
        "sensor_msgs/CompressedImage",
        "that picture as JPEG",
        needs=("foreground", "keypoints_2d"),
    ),
    Topic(
        "/tf",
        "tf2_msgs/TFMessage",
        "reliable",
        100,
        "body_<id> and the frames of its links (REP-155), from the camera's frame",
        "publish_tf",
        _POSE_3D,
    ),
    _out("~/stats", "diagnostic_msgs/DiagnosticArray", "latency by stage, ages, drops by reason"),
    Topic("/diagnostics", "diagnostic_msgs/DiagnosticArray", "reliable", 10, "rates, stamps, model, in standard keys"),
    _out(
        "/humans/bodies/tracked",
        "hri_msgs/IdsList",
        "ids of the bodies in view of this node and of the other perception nodes (REP-155)",
        "hri_msgs",
        _POSE_2D,
    ),
    _body("roi", "hri_msgs/NormalizedRegionOfInterest2D", "box in the image", _POSE_2D),
    _body("cropped", "sensor_msgs/Image", "rgb8, that part of the image", _POSE_2D),
    _body("skeleton2d", "hri_msgs/Skeleton2D", "18 joints in the image", _POSE_2D),
    _body("position", "geometry_msgs/PointStamped", "the middle of the hips", _POSE_3D),
    _body("velocity", "geometry_msgs/TwistStamped", "in the body's own frame: x is forward", _POSE_3D),
    _body("joint_states", "sensor_msgs/JointState", "angles of the kinematic model", _POSE_3D),
    _body("urdf", "std_msgs/String", "the kinematic model with this body's lengths, latched", _POSE_3D),
)


def topics_to_tasks(topics: Iterable[str], enabled: Iterable[str]) -> list[str]:
    """The enabled tasks that these topics (names of PUBLISHED) need, in the order of TASKS."""
    topics, enabled = set(topics), set(enabled)
    needed = {name for name, task in TASKS.items() if topics & set(task.topics)}
    needed |= {task for topic in PUBLISHED if topic.name in topics for task in topic.needs}
    return [name for name in TASKS if name in needed & enabled]
