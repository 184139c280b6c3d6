"""RViz with every output, in the frame of the camera's images: `ros2 launch thfm_ros rviz.launch.py`."""

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import Action, LaunchContext, LaunchDescription
from thfm_ros.nodes.launch_arguments import ARGUMENTS, refuse_undeclared, sim_time


def _rviz(context: LaunchContext) -> list[Action]:
    argument = {a.name: LaunchConfiguration(a.name).perform(context) for a in ARGUMENTS["rviz.launch.py"]}
    rviz = Node(
        package="thfm_ros",
        executable="rviz",  # learns the frame, and then becomes RViz
        name="rviz",
        namespace=argument["namespace"],
        arguments=["-d", PathJoinSubstitution([FindPackageShare("thfm_ros"), "rviz", "thfm.rviz"])],
        parameters=[
            {
                "frame": ParameterValue(argument["frame"], value_type=str),
                **sim_time(argument["use_sim_time"]),
            }
        ],
        remappings=[("image", argument["image"]), ("image/compressed", f"{argument['image']}/compressed")],
        output="screen",
    )
    return [rviz]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            OpaqueFunction(function=refuse_undeclared, args=[__file__]),
            *(
                DeclareLaunchArgument(a.name, default_value=a.default, description=a.description)
                for a in ARGUMENTS["rviz.launch.py"]
            ),
            OpaqueFunction(function=_rviz),
        ]
    )
