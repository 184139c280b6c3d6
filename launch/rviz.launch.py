"""RViz with every output, in the frame of the camera's images: `ros2 launch thfm_ros rviz.launch.py`."""

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription
from thfm_ros.nodes.launch_arguments import ARGUMENTS, refuse_undeclared


def generate_launch_description() -> LaunchDescription:
    image = LaunchConfiguration("image")
    return LaunchDescription(
        [
            OpaqueFunction(function=refuse_undeclared, args=[__file__]),
            *(
                DeclareLaunchArgument(a.name, default_value=a.default, description=a.description)
                for a in ARGUMENTS["rviz.launch.py"]
            ),
            Node(
                package="thfm_ros",
                executable="rviz",  # learns the frame, and then becomes RViz
                name="rviz",
                namespace=LaunchConfiguration("namespace"),
                arguments=["-d", PathJoinSubstitution([FindPackageShare("thfm_ros"), "rviz", "thfm.rviz"])],
                parameters=[
                    {
                        "frame": ParameterValue(LaunchConfiguration("frame"), value_type=str),
                        "use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool),
                    }
                ],
                remappings=[("image", image), ("image/compressed", [image, "/compressed"])],
                output="screen",
            ),
        ]
    )
