"""The perception node and a follower that drives after a person: for simulation, it knows no obstacles.

ros2 launch thfm_ros follow.launch.py image:=/camera/image_rect camera_info:=/camera/camera_info cmd_vel:=/cmd_vel
"""

import sys

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction, Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import Action, LaunchContext, LaunchDescription
from thfm_ros.nodes.launch_arguments import ARGUMENTS, FOLLOW_DECIDES, number, passed_on, refuse_undeclared, sim_time
from thfm_ros.paths import resource


def _follower(context: LaunchContext) -> list[Action]:
    names = ("namespace", "cmd_vel", "distance", "use_sim_time")
    argument = {name: LaunchConfiguration(name).perform(context) for name in names}
    follower = Node(
        executable=sys.executable,
        exec_name="follow_me",
        name="follow_me",
        namespace=argument["namespace"],
        arguments=[str(resource("examples", "follow_me.py"))],
        parameters=[
            {
                **sim_time(argument["use_sim_time"]),
                "distance": number("distance", argument["distance"]),  # 2 is of another type than 2.0
            }
        ],
        remappings=[("target_pose", "perception/people/target_pose"), ("cmd_vel", argument["cmd_vel"])],
        output="screen",
        on_exit=[Shutdown(reason="the follower has ended")],
    )
    return [follower]


def generate_launch_description() -> LaunchDescription:
    argument = {a.name: LaunchConfiguration(a.name) for a in ARGUMENTS["follow.launch.py"]}
    perception = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(
            PathJoinSubstitution([FindPackageShare("thfm_ros"), "launch", "perception.launch.py"])
        ),
        launch_arguments={
            **FOLLOW_DECIDES,
            **{name: argument[name] for name in passed_on("follow.launch.py")},
        }.items(),
    )
    return LaunchDescription(
        [
            OpaqueFunction(function=refuse_undeclared, args=[__file__]),
            *(
                DeclareLaunchArgument(a.name, default_value=a.default, description=a.description)
                for a in ARGUMENTS["follow.launch.py"]
            ),
            perception,
            OpaqueFunction(function=_follower),
        ]
    )
