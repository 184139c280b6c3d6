"""The command line as a user meets it: a process of its own, one clear line for every mistake."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from thfm_ros import cli
from thfm_ros.errors import UserError


def thfm(*arguments, **kwargs):
    return subprocess.run(
        [sys.executable, "-m", "thfm_ros.cli", *arguments], capture_output=True, text=True, check=False, **kwargs
    )


def test_help_lists_every_command():
    found = thfm("--help").stdout
    for command in ("demo", "doctor", "run", "info", "init", "generate", "train", "evaluate", "export", "build"):
        assert command in found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("demo", "--source", "missing.mp4"), "video not found: missing.mp4"),
        (("demo", "--source", "holiday"), "neither a video file nor a sample: the samples are astronaut"),
        (("run", "missing.mp4", "-o", "out.mp4"), "missing.mp4"),
        (("info", "huge"), "unknown preset 'huge'"),
        (("run", "walker"), "nothing to make: expected -o"),
        (("train", "a.yaml"), "Missing option '--out': see "),
        (("info", "nano", "--tasks", "many"), "Invalid value for '--tasks': "),
        (("walk",), "No such command 'walk'"),
        (("evaluate", "walk"), "No such command 'walk'"),
        (("evaluate", "coco", "--root", "nowhere", "--checkpoint", "constant"), "folder does not exist: nowhere"),
    ],
)
def test_mistakes_are_one_line(arguments, message, tmp_path):
    done = thfm(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_damaged_video_is_named(tmp_path):
    (tmp_path / "damaged.mp4").write_bytes(b"\0" * 1000)
    done = thfm("demo", "--source", "damaged.mp4", cwd=tmp_path)
    assert done.returncode == 2
    assert "cannot read damaged.mp4 as a video" in done.stderr


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device: make room"),
        (OSError(errno.EIO, "Input/output error", "a.npy"), "a.npy: Input/output error: choose another file"),
        (OSError("no answer\nat all"), "no answer: THFM_DEBUG=1 shows where"),
        (UserError("expected so, found that: do this"), "expected so, found that: do this"),
    ],
)
def test_errors_of_the_system_are_one_line(error, line, monkeypatch, capsys):
    def build():
        app = typer.Typer()

        @app.command()
        def fail(word: str):
            raise error

        return app

    monkeypatch.setattr(cli, "build", build)
    monkeypatch.setattr(sys, "argv", ["thfm", "now"])
    monkeypatch.delenv("THFM_DEBUG", raising=False)
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    printed = capsys.readouterr().err
    assert printed.startswith(f"thfm: {line}")
    assert len(printed.strip().splitlines()) == 1


def test_doctor_reports_this_machine(tmp_path):
    done = thfm("doctor", "--json", str(tmp_path / "doctor.json"))
    found = {f["what"]: f for f in json.loads((tmp_path / "doctor.json").read_text())}
    assert found["Python 3.10-3.14"]["found"].startswith(".".join(map(str, sys.version_info[:3])))
    assert done.returncode == int(any(f["state"] == "missing" for f in found.values()))
    for finding in found.values():
        assert finding["state"] == "ok" or finding["fix"] or "none" in finding["found"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("demo", "--out", "{file}/out"), "cannot write {file}/out/demo.mp4"),
        (("demo", "--out", "{file}"), "cannot write to {file}: it is a file"),
        (("demo", "--source", "/dev/video99"), "camera /dev/video99 does not exist"),
        (("doctor", "--json", "{file}/doctor.json"), "cannot write {file}/doctor.json"),
        (("doctor", "--json", "/proc/doctor.json"), "cannot write /proc/doctor.json"),
    ],
)
def test_places_that_cannot_be_written_are_named_before_any_work(arguments, message, tmp_path):
    file = tmp_path / "a-file"
    file.write_text("kept")
    done = thfm(*(a.format(file=file) for a in arguments), cwd=tmp_path)
    assert done.returncode == 2
    assert message.format(file=file) in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert file.read_text() == "kept"


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (("preview-training", "none.yaml", "--out", "x.xyz"), "expected a picture (.jpg, .jpeg, .png) as --out"),
        (("preview-training", "none.yaml", "--out", "x.png"), "cannot write x.png: it is a folder: name a file"),
        (("generate", "--preview", "--assets", "none", "--out", "a-file"), "cannot write a-file/preview.png"),
        (("train", "none.yaml", "--out", "a-file"), "cannot write to a-file: a-file is a file: choose a folder"),
        (("train", "none.yaml", "--out", "a-file/run"), "a-file is a file: choose a folder with --out"),
        (("train-recipe", "none.yaml", "--out", "a-file"), "cannot write to a-file: a-file is a file"),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_anything_is_read(command, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").touch()
    (tmp_path / "x.png").mkdir()
    result = CliRunner().invoke(cli.build(), command)
    assert isinstance(result.exception, UserError)
    assert line in str(result.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-file", "x.png"]


CONSTANT = ("--checkpoint", "constant")
WITH_JSON = [
    ("doctor",),
    ("demo", "--checkpoint", "none"),
    ("info", "huge"),
    ("verify", "none", "--checkpoint", "none"),
    ("bench", "none"),
    ("generate", "--size", "none"),
    ("run", "walker", "-o", "film.mp4", "--bundle", "none"),
    ("evaluate", "coco", "--root", "none", *CONSTANT),
    ("evaluate", "views", "--root", "none", *CONSTANT),
    ("evaluate", "nobody", "--root", "none", *CONSTANT),
    ("evaluate", "synthetic", "--data", "none", *CONSTANT),
    ("evaluate", "crowd", "--boxes", "none"),
    ("evaluate", "hi4d", "--data", "none", *CONSTANT),
]


@pytest.mark.parametrize("command", WITH_JSON, ids=" ".join)
@pytest.mark.parametrize(
    ("place", "line"), [("folder", "it is a folder: name a file"), ("a-file/a.json", "choose another place")]
)
def test_a_json_file_that_cannot_be_is_refused_before_anything_else(command, place, line, tmp_path, monkeypatch):
    """Each command has another mistake too, which comes to light only after the file is looked at."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "a-file").touch()
    result = CliRunner().invoke(cli.build(), [*command, "--json", place])
    assert isinstance(result.exception, UserError)
    assert str(result.exception).startswith(f"cannot write {place}: ")
    assert str(result.exception).endswith(line)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-file", "folder"]


def test_every_command_with_a_json_file_is_among_them():
    def names(command, path=()):
        for name, part in getattr(command, "commands", {}).items():
            yield from names(part, (*path, name))
        if any("--json" in parameter.opts for parameter in command.params):
            yield path

    found = set(names(typer.main.get_command(cli.build())))
    published = {path for path in found if path[0] == "evaluate"} - {c[:2] for c in WITH_JSON}
    from thfm_ros.evaluate.commands import PUBLISHED

    assert {name for _, name in published} == PUBLISHED.keys() - {"hi4d"}
    assert found - published == {c[:2] if c[0] == "evaluate" else c[:1] for c in WITH_JSON}


WITH_BACKEND = [("run", "walker", "-o", "/dev/null/film.mp4"), *(c for c in WITH_JSON if c[0] == "evaluate")]


@pytest.mark.parametrize("command", WITH_BACKEND, ids=" ".join)
def test_a_mistyped_backend_is_refused_before_anything_is_read_or_exported(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.build(), [*command, "--backend", "foo"])
    assert isinstance(result.exception, UserError)
    assert str(result.exception).startswith("unknown backend 'foo': expected auto or one of ")
    assert not list(tmp_path.iterdir())


def test_a_report_that_cannot_be_written_names_its_file():
    """And not the temporary beside it."""
    from thfm_ros.evaluate.report import write_json

    with pytest.raises(UserError, match=r"cannot write /proc/a\.json: .*: choose another place"):
        write_json(Path("/proc/a.json"), {"a": float("nan")})
