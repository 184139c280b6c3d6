"""How ROS packages that the nodes use, and that are not installed everywhere, are installed."""

# Packages without a Debian package for every distribution (people_msgs has none in ROS 2): branch and repository.
SOURCES = {
    "people_msgs": ("ros2", "https://github.com/wg-perception/people"),
    "hri_msgs": ("humble-devel", "https://github.com/ros4hri/hri_msgs"),
}


def how_to_install(package: str, distribution: str = "$ROS_DISTRO") -> str:
    """The command that installs a ROS package, or brings its source into the workspace."""
    if package in SOURCES:
        branch, repository = SOURCES[package]
        return f"git clone -b {branch} {repository} (in the workspace's src), colcon build --packages-select {package}"
    name = {"tf2_ros": "tf2_ros_py"}.get(package, package)
    return f"apt install ros-{distribution}-{name.replace('_', '-')}"
