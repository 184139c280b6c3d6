"""The command line as a user meets it: a process of its own, one clear line for every mistake."""

import json
import subprocess
import sys

import pytest


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


def test_doctor_reports_this_machine(tmp_path):
    done = thfm("doctor", "--json", str(tmp_path / "doctor.json"))
    found = {f["what"]: f for f in json.loads((tmp_path / "doctor.json").read_text())}
    assert found["Python 3.10-3.13"]["found"].startswith(".".join(map(str, sys.version_info[:3])))
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
