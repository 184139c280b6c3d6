"""The perception node on a camera: `ros2 launch thfm_ros perception.launch.py image:=/camera/image_raw`."""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription

# Arguments that are parameters of the node, and override the parameter file where they are given.
PARAMETERS = ("bundle", "backend", "autostart", "image_transport", "horizontal_fov_deg", "stride", "use_depth_camera")

ARGUMENTS = (
    ("target", "cpu", "parameter file of this kind of machine: cpu, rtx, orin, thor or datacenter"),
    ("params_file", "", "parameter file to use instead of the target's"),
    ("namespace", "", "namespace of the node and its topics"),
    ("image", "image", "topic of the colour camera (raw; compressed adds /compressed)"),
    ("camera_info", "camera_info", "topic of its calibration"),
    ("depth_image", "depth_camera/image", "topic of a registered depth camera (use_depth_camera:=true)"),
    ("bundle", "", "bundle folder; empty: the one of the parameter file, else the one that ships"),
    ("backend", "", "auto, tensorrt, torch_tensorrt, openvino, onnxruntime or torch; empty: the parameter file's"),
    ("autostart", "", "true: configure and activate; false: wait for a lifecycle manager; empty: the file's"),
    ("image_transport", "", "raw or compressed; empty: the parameter file's"),
    ("horizontal_fov_deg", "", "field of view of a camera without camera_info; empty: the parameter file's"),
    ("stride", "", "new frames a pass; empty: the parameter file's"),
    ("use_depth_camera", "", "true: metric scale by a depth camera; empty: the parameter file's"),
    ("use_sim_time", "false", "true: time from /clock (simulation, bags)"),
    ("respawn", "true", "true: start the process again when it ends"),
    ("log_level", "info", "debug, info, warn or error"),
    ("rviz", "false", "true: also RViz with every output"),
)


def _value(text: str) -> bool | int | float | str:
    """The parameter's type from the argument's text, as a YAML file would have it."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _node(context: LaunchContext) -> list[Node]:
    argument = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    file = argument["params_file"]
    if not file:
        folder = Path(get_package_share_directory("thfm_ros")) / "config"
        file = folder / f"{argument['target']}.yaml"
        if not file.is_file():
            known = ", ".join(sorted(f.stem for f in folder.glob("*.yaml")))
            raise RuntimeError(f"no parameters for target '{argument['target']}': expected one of {known}")
    overrides = {name: _value(argument[name]) for name in PARAMETERS if argument[name]}
    if "horizontal_fov_deg" in overrides:
        overrides["horizontal_fov_deg"] = float(overrides["horizontal_fov_deg"])
    return [
        Node(
            package="thfm_ros",
            executable="perception",
            name="perception",
            namespace=argument["namespace"],
            parameters=[str(file), {"use_sim_time": _value(argument["use_sim_time"]), **overrides}],
            remappings=[
                ("image", argument["image"]),
                ("image/compressed", f"{argument['image']}/compressed"),
                ("camera_info", argument["camera_info"]),
                ("depth_camera/image", argument["depth_image"]),
            ],
            arguments=["--ros-args", "--log-level", argument["log_level"]],
            respawn=_value(argument["respawn"]),
            respawn_delay=2.0,
            output="screen",
        )
    ]


def generate_launch_description() -> LaunchDescription:
    rviz = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(PathJoinSubstitution([FindPackageShare("thfm_ros"), "launch", "rviz.launch.py"])),
        launch_arguments={
            "namespace": LaunchConfiguration("namespace"),
            "use_sim_time": LaunchConfiguration("use_sim_time"),
        }.items(),
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    arguments = [DeclareLaunchArgument(n, default_value=default, description=text) for n, default, text in ARGUMENTS]
    return LaunchDescription([*arguments, OpaqueFunction(function=_node), rviz])
