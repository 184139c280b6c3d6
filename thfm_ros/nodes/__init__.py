"""Everything that imports rclpy: the perception node, the camera and the recorder, and the conversions of messages."""

from thfm_ros.nodes.distribution import require_supported

require_supported()
