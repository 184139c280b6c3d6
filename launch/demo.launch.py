"""A video file, a shipped sample or a V4L2 camera through the perception node, recorded and shown.

ros2 launch thfm_ros demo.launch.py source:=walker rviz:=true
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, RegisterEventHandler, Shutdown
from launch.conditions import UnlessCondition
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription

ARGUMENTS = (
    ("source", "walker", "video file, shipped sample (walker, pedestrians, rabbit, astronaut) or device (/dev/video0)"),
    ("rate", "0.0", "frames a second; 0: the source's own"),
    ("loop", "false", "true: play the file again and again"),
    ("horizontal_fov_deg", "60.0", "field of view that the camera states, degrees"),
    ("target", "cpu", "parameter file of this kind of machine: cpu, rtx, orin, thor or datacenter"),
    ("bundle", "", "bundle folder; empty: the one that ships"),
    ("out", "out", "folder for demo.mp4, demo.png and demo.json"),
    ("bag", "", "folder of an MCAP bag with every message; empty: none"),
    ("rviz", "false", "true: also RViz with every output"),
)


def generate_launch_description() -> LaunchDescription:
    argument = {name: LaunchConfiguration(name) for name, _, _ in ARGUMENTS}
    camera = Node(
        package="thfm_ros",
        executable="camera",
        name="camera",
        output="screen",
        parameters=[
            {
                "source": ParameterValue(argument["source"], value_type=str),
                "rate": ParameterValue(argument["rate"], value_type=float),
                "loop": ParameterValue(argument["loop"], value_type=bool),
                "horizontal_fov_deg": ParameterValue(argument["horizontal_fov_deg"], value_type=float),
                "wait_for_subscribers": 2,
            }
        ],
    )
    recorder = Node(
        package="thfm_ros",
        executable="recorder",
        name="recorder",
        output="screen",
        parameters=[
            {
                "video": PathJoinSubstitution([argument["out"], "demo.mp4"]),
                "picture": PathJoinSubstitution([argument["out"], "demo.png"]),
                "table": PathJoinSubstitution([argument["out"], "demo.json"]),
                "bag": ParameterValue(argument["bag"], value_type=str),
            }
        ],
    )
    perception = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(
            str(Path(get_package_share_directory("thfm_ros")) / "launch" / "perception.launch.py")
        ),
        launch_arguments={
            "target": argument["target"],
            "bundle": argument["bundle"],
            "rviz": argument["rviz"],
            "respawn": "false",
        }.items(),
    )
    over = Shutdown(reason="the recording is complete")
    return LaunchDescription(
        [
            *(DeclareLaunchArgument(name, default_value=value, description=text) for name, value, text in ARGUMENTS),
            camera,
            recorder,
            perception,
            # With RViz open the picture stays until the user closes it.
            RegisterEventHandler(
                OnProcessExit(target_action=recorder, on_exit=[over]), condition=UnlessCondition(argument["rviz"])
            ),
        ]
    )
