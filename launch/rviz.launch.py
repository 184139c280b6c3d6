"""RViz with every output: `ros2 launch thfm_ros rviz.launch.py`."""

from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

ARGUMENTS = (
    ("namespace", "", "namespace of the perception node"),
    ("frame", "camera_optical_frame", "frame that everything is shown in: that of the camera's images"),
    ("use_sim_time", "false", "true: time from /clock (simulation, bags)"),
)


def generate_launch_description() -> LaunchDescription:
    config = PathJoinSubstitution([FindPackageShare("thfm_ros"), "rviz", "thfm.rviz"])
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, default, text in ARGUMENTS
            ),
            Node(
                package="rviz2",
                executable="rviz2",
                name="rviz",
                namespace=LaunchConfiguration("namespace"),
                arguments=["-d", config, "-f", LaunchConfiguration("frame")],
                parameters=[{"use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)}],
                output="screen",
            ),
        ]
    )
