"""A recorded bag through the node, in the bag's own time: `ros2 launch thfm_ros replay.launch.py bag:=FOLDER`."""

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    RegisterEventHandler,
    TimerAction,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

ARGUMENTS = (
    ("bag", None, "folder of the bag"),
    ("rate", "1.0", "speed of the replay; slower answers more frames"),
    ("delay", "5.0", "seconds until the replay starts: the model loads meanwhile"),
    ("image", "image", "topic of the colour images in the bag"),
    ("camera_info", "camera_info", "topic of their calibration in the bag"),
    ("bundle", "", "bundle folder; empty: the one that ships"),
    ("target", "cpu", "parameter file of this kind of machine: cpu, rtx, orin, thor or datacenter"),
    ("rviz", "false", "true: also RViz with every output"),
)


def generate_launch_description() -> LaunchDescription:
    passed_on = ("image", "camera_info", "bundle", "target", "rviz")
    perception = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(
            PathJoinSubstitution([FindPackageShare("thfm_ros"), "launch", "perception.launch.py"])
        ),
        launch_arguments={
            "use_sim_time": "true",
            "respawn": "false",
            **{name: LaunchConfiguration(name) for name in passed_on},
        }.items(),
    )
    play = ExecuteProcess(
        cmd=["ros2", "bag", "play", LaunchConfiguration("bag"), "--clock", "--rate", LaunchConfiguration("rate")],
        name="bag",
        output="screen",
    )
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, default, text in ARGUMENTS
            ),
            perception,
            TimerAction(period=LaunchConfiguration("delay"), actions=[play]),
            RegisterEventHandler(
                OnProcessExit(target_action=play, on_exit=[EmitEvent(event=Shutdown(reason="the bag has ended"))])
            ),
        ]
    )
