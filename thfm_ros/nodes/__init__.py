"""Everything that imports rclpy: the perception node, the camera and the recorder, and the conversions of messages."""
