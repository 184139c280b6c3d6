"""From camera frames to aligned, metric outputs: sampling, sliding windows, alignment, scale. Plain numpy, no ROS."""
