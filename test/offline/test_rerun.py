"""`thfm run --rerun`: what the viewer gets, read back from the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stream_fakes import FakeRuntime, moving_square

from thfm_ros.errors import UserError
from thfm_ros.geometry import Intrinsics, project
from thfm_ros.stream.estimator import FrameResult, StreamEstimator

rerun = pytest.importorskip("rerun")
TASKS = ("scene_depth", "scene_normals", "foreground", "dense_pose", "keypoints_3d")
CAMERA = Intrinsics(96.0, 96.0, 48.0, 32.0, 96, 64)
