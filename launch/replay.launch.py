"""A recorded bag through the node, in the bag's own time: `ros2 launch thfm_ros replay.launch.py bag:=FOLDER`."""

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    TimerAction,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription
from thfm_ros.nodes.launch_arguments import ARGUMENTS, REPLAY_DECIDES, passed_on, refuse_undeclared


def generate_launch_description() -> LaunchDescription:
    perception = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(
            PathJoinSubstitution([FindPackageShare("thfm_ros"), "launch", "perception.launch.py"])
        ),
        launch_arguments={
            **REPLAY_DECIDES,
            **{name: LaunchConfiguration(name) for name in passed_on("replay.launch.py")},
        }.items(),
    )
    play = ExecuteProcess(
        cmd=["ros2", "bag", "play", LaunchConfiguration("bag"), "--clock", "--rate", LaunchConfiguration("rate")],
        name="bag",
        output="screen",
    )
    return LaunchDescription(
        [
            OpaqueFunction(function=refuse_undeclared, args=[__file__]),
            *(
                DeclareLaunchArgument(a.name, default_value=a.default, description=a.description)
                for a in ARGUMENTS["replay.launch.py"]
            ),
            perception,
            TimerAction(period=LaunchConfiguration("delay"), actions=[play]),
            RegisterEventHandler(
                OnProcessExit(target_action=play, on_exit=[EmitEvent(event=Shutdown(reason="the bag has ended"))])
            ),
        ]
    )
