"""Readers of the public data sets in their published layouts, one file each, and of our own shards.

A reader is a function `read(root, ...) -> list[Recording]`; `READERS` finds it by the benchmark's name.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from thfm_ros.errors import UserError
from thfm_ros.evaluate.readers.base import Recording

READERS = ("hi4d", "goliath", "videomatte", "photomatte85", "ppm100", "emdb", "rich", "h36m", "shards")


def read(name: str, root: str | Path, **options: Any) -> list[Recording]:
    """The recordings of data set `name` below `root`, checked to be there; UserError that names what is missing."""
    if name not in READERS:
        raise UserError(f"unknown data set '{name}': expected one of {', '.join(READERS)}")
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"the {name} folder does not exist: {root} (give it with --data)")
    return importlib.import_module(f"thfm_ros.evaluate.readers.{name}").read(root, **options)
