"""The perception node on a camera: `ros2 launch thfm_ros perception.launch.py image:=/camera/image_raw`."""

from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessExit
from launch.events import matches_action
from launch.events.process import ProcessExited, ShutdownProcess
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import Action, LaunchContext, LaunchDescription
from thfm_ros.errors import UserError
from thfm_ros.nodes.launch_arguments import ARGUMENTS, RVIZ, flag, log_level, overrides, refuse_undeclared, sim_time
from thfm_ros.paths import resource

WRONG_PARAMETER = 2  # exit code of the node


def _parameter_file(params_file: str, target: str) -> Path:
    folder = resource("config")
    file = Path(params_file) if params_file else folder / f"{target}.yaml"
    if not file.is_file():
        known = ", ".join(sorted(f.stem for f in folder.glob("*.yaml")))
        wrong = f"params_file:={params_file}" if params_file else f"target:={target}"
        raise UserError(f"{wrong}: no such file; expected a file, or one of the targets {known}")
    return file


def _end(event: ProcessExited, context: LaunchContext) -> list[Action] | None:
    """A wrong parameter stays wrong: the process is not started again."""
    if event.returncode != WRONG_PARAMETER:
        return None
    return [
        LogInfo(msg="perception: ended by a wrong parameter (above), which starting again does not mend"),
        EmitEvent(event=ShutdownProcess(process_matcher=matches_action(event.action))),
    ]


def _node(context: LaunchContext) -> list[Action]:
    names = [a.name for a in ARGUMENTS["perception.launch.py"]]
    argument = {name: LaunchConfiguration(name).perform(context) for name in names}
    given = {**sim_time(argument["use_sim_time"]), **overrides(argument)}
    node = Node(
        package="thfm_ros",
        executable="perception",
        name="perception",
        namespace=argument["namespace"],
        parameters=[
            str(_parameter_file(argument["params_file"], argument["target"])),
            *([given] if given else []),
        ],
        remappings=[
            ("image", argument["image"]),
            ("image/compressed", f"{argument['image']}/compressed"),
            ("camera_info", argument["camera_info"]),
            ("depth_camera/image", argument["depth_image"]),
            ("depth_camera/camera_info", argument["depth_camera_info"]),
        ],
        arguments=["--ros-args", "--log-level", log_level(argument["log_level"])],
        respawn=flag("respawn", argument["respawn"]),
        respawn_delay=2.0,
        output="screen",
    )
    return [RegisterEventHandler(OnProcessExit(target_action=node, on_exit=_end)), node]


def generate_launch_description() -> LaunchDescription:
    rviz = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(PathJoinSubstitution([FindPackageShare("thfm_ros"), "launch", "rviz.launch.py"])),
        launch_arguments={a.name: LaunchConfiguration(a.name) for a in RVIZ}.items(),
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    return LaunchDescription(
        [
            OpaqueFunction(function=refuse_undeclared, args=[__file__]),
            *(
                DeclareLaunchArgument(a.name, default_value=a.default, description=a.description)
                for a in ARGUMENTS["perception.launch.py"]
            ),
            OpaqueFunction(function=_node),
            rviz,
        ]
    )
