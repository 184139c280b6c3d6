"""The perception node for a social costmap: people_msgs/People on /people, in a frame that stands still.

ros2 launch thfm_ros social.launch.py image:=/camera/image_rect camera_info:=/camera/camera_info target_frame:=odom

The costmap's own parameters: examples/social_costmap.yaml. Needs people_msgs and tf2_ros. The node has a namespace:
its topic `people` would have the costmap's name otherwise.
"""

from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import SetRemap
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription
from thfm_ros.nodes.launch_arguments import ARGUMENTS, passed_on, refuse_undeclared
from thfm_ros.nodes.message_types import require


def _require_people_msgs(context: LaunchContext) -> None:
    """Without them the node would run, and have nothing to say on that topic."""
    require("social.launch.py", "people_msgs")


def generate_launch_description() -> LaunchDescription:
    argument = {a.name: LaunchConfiguration(a.name) for a in ARGUMENTS["social.launch.py"]}
    perception = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(
            PathJoinSubstitution([FindPackageShare("thfm_ros"), "launch", "perception.launch.py"])
        ),
        launch_arguments={name: argument[name] for name in passed_on("social.launch.py")}.items(),
    )
    return LaunchDescription(
        [
            OpaqueFunction(function=refuse_undeclared, args=[__file__]),
            *(
                DeclareLaunchArgument(a.name, default_value=a.default, description=a.description)
                for a in ARGUMENTS["social.launch.py"]
            ),
            OpaqueFunction(function=_require_people_msgs),
            GroupAction([SetRemap("people/positions", argument["people"]), perception]),
        ]
    )
