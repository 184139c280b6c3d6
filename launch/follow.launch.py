"""The perception node and a follower that drives after a person: for simulation, it knows no obstacles.

ros2 launch thfm_ros follow.launch.py image:=/camera/image_rect camera_info:=/camera/camera_info cmd_vel:=/cmd_vel
"""

import sys

from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription
from thfm_ros.nodes.launch_arguments import ARGUMENTS, passed_on, refuse_undeclared
from thfm_ros.paths import resource


def generate_launch_description() -> LaunchDescription:
    argument = {a.name: LaunchConfiguration(a.name) for a in ARGUMENTS["follow.launch.py"]}
    follower = ExecuteProcess(
        cmd=[
            *(sys.executable, str(resource("examples", "follow_me.py")), "--ros-args"),
            *("-r", ["__ns:=/", argument["namespace"]], "-r", "target_pose:=perception/people/target_pose"),
            *("-r", ["cmd_vel:=", argument["cmd_vel"]], "-p", ["distance:=", argument["distance"]]),
            *("-p", ["use_sim_time:=", argument["use_sim_time"]]),
        ],
        name="follow_me",
        output="screen",
    )
    perception = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(
            PathJoinSubstitution([FindPackageShare("thfm_ros"), "launch", "perception.launch.py"])
        ),
        launch_arguments={name: argument[name] for name in passed_on("follow.launch.py")}.items(),
    )
    return LaunchDescription(
        [
            OpaqueFunction(function=refuse_undeclared, args=[__file__]),
            *(
                DeclareLaunchArgument(a.name, default_value=a.default, description=a.description)
                for a in ARGUMENTS["follow.launch.py"]
            ),
            perception,
            follower,
        ]
    )
