"""The `thfm` command: each area registers its own commands; this file only finds them and reports errors."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
from types import FrameType
from typing import Any

import typer

from thfm_ros.errors import UserError

# Of the click that typer uses, which is in newer ones a copy of its own: reached through what typer exports.
USAGE_ERROR: Any = typer.BadParameter.__base__
AREAS = ("system", "offline", "model", "synth", "train", "evaluate", "engine")


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
    debug = bool(os.environ.get("THFM_DEBUG"))
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _exit)
    try:
        # Not standalone: typer would frame its errors over five lines. A command returns None, typer an exit code.
        code = build()(sys.argv[1:] or ["--help"], standalone_mode=False) or 0
    except UserError as error:
        if debug:
            raise
        code = _complain(str(error))
    except USAGE_ERROR as error:
        command = error.ctx.command_path if error.ctx is not None else "thfm"
        code = _complain(f"{' '.join(error.format_message().split()).rstrip('.')}: see {command} --help")
    except OSError as error:
        if debug:
            raise
        code = _complain(_system_error(error))
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    if code == 130:
        print("thfm: interrupted", file=sys.stderr)
    sys.exit(code)


def _exit(number: int, frame: FrameType | None) -> None:
    """An exception, so that children end and temporary files go."""
    sys.exit(128 + number)


def _complain(line: str) -> int:
    print(f"thfm: {line}", file=sys.stderr)
    return 2


def _system_error(error: OSError) -> str:
    """The system's error in one line, with what to do about it."""
    reason = error.strerror or next(iter(str(error).split("\n")), "") or type(error).__name__
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        fix = "make room, or choose another folder"
    elif error.filename:
        fix = "choose another file or folder"
    else:
        fix = "THFM_DEBUG=1 shows where"
    return f"{error.filename}: {reason}: {fix}" if error.filename else f"{reason}: {fix}"


if __name__ == "__main__":
    main()
