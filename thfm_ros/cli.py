"""The `thfm` command: each area registers its own commands; this file only finds them and reports errors."""

from __future__ import annotations

import importlib
import os
import sys

import typer

from thfm_ros.errors import UserError

AREAS = ("system", "stream", "model", "synth", "train", "evaluate", "engine")


def build() -> typer.Typer:
    """The application with the commands of all areas; heavy imports wait until a command runs."""
    app = typer.Typer(
        name="thfm",
        help="Depth, normals, masks, dense pose and skeletons of people in video, with one network.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for area in AREAS:
        importlib.import_module(f"thfm_ros.{area}.commands").register(app)
    return app


def main() -> None:
    """Entry point. A user error is one line and exit code 2; THFM_DEBUG=1 shows the traceback."""
    try:
        build()()
    except UserError as error:
        if os.environ.get("THFM_DEBUG"):
            raise
        print(f"thfm: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if os.environ.get("THFM_DEBUG") or not error.filename:
            raise
        print(f"thfm: {error.filename}: {error.strerror}: choose another file or folder", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("thfm: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
