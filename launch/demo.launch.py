"""A video file, a shipped sample or a V4L2 camera through the perception node, recorded and shown.

ros2 launch thfm_ros demo.launch.py source:=walker rviz:=true
"""

from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
)
from launch.conditions import UnlessCondition
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription
from thfm_ros.nodes.launch_arguments import ARGUMENTS, DEMO_DECIDES, passed_on, refuse_undeclared


def generate_launch_description() -> LaunchDescription:
    argument = {a.name: LaunchConfiguration(a.name) for a in ARGUMENTS["demo.launch.py"]}
    camera = Node(
        package="thfm_ros",
        executable="camera",
        name="camera",
        namespace=argument["namespace"],
        output="screen",
        parameters=[
            {
                "source": ParameterValue(argument["source"], value_type=str),
                "rate": ParameterValue(argument["rate"], value_type=float),
                "loop": ParameterValue(argument["loop"], value_type=bool),
                "horizontal_fov_deg": ParameterValue(argument["horizontal_fov_deg"], value_type=float),
                "frame_id": ParameterValue(argument["frame"], value_type=str),
                "wait_for_subscribers": 2,  # the perception node and the recorder
            }
        ],
    )
    recorder = Node(
        package="thfm_ros",
        executable="recorder",
        name="recorder",
        namespace=argument["namespace"],
        output="screen",
        parameters=[
            {
                "video": PathJoinSubstitution([argument["out"], "demo.mp4"]),
                "picture": PathJoinSubstitution([argument["out"], "demo.png"]),
                "table": PathJoinSubstitution([argument["out"], "demo.json"]),
                "bag": ParameterValue(argument["bag"], value_type=str),
                "start_timeout_s": 0.0,  # a first export may take many minutes; the node reports what holds it up
            }
        ],
    )
    perception = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(
            PathJoinSubstitution([FindPackageShare("thfm_ros"), "launch", "perception.launch.py"])
        ),
        launch_arguments={**DEMO_DECIDES, **{name: argument[name] for name in passed_on("demo.launch.py")}}.items(),
    )
    over = Shutdown(reason="the recording is complete")
    return LaunchDescription(
        [
            OpaqueFunction(function=refuse_undeclared, args=[__file__]),
            *(
                DeclareLaunchArgument(a.name, default_value=a.default, description=a.description)
                for a in ARGUMENTS["demo.launch.py"]
            ),
            camera,
            recorder,
            perception,
            # With RViz open the picture stays until the user closes it.
            RegisterEventHandler(
                OnProcessExit(target_action=recorder, on_exit=[over]), condition=UnlessCondition(argument["rviz"])
            ),
        ]
    )
