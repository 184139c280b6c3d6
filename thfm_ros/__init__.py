"""One network for depth, normals, masks, dense pose and skeletons in ROS 2."""

# The generated messages (thfm_ros.msg) are installed by colcon, the modules may run from the source tree:
# one package over both folders.
__path__ = __import__("pkgutil").extend_path(__path__, __name__)
