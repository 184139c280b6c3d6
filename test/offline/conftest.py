"""Tests of whole recordings share the small network of the stream tests, and the video files of the ground floor's."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / part) for part in ("stream", "ground")]
