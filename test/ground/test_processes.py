"""Children end with their parent, also with a killed one; an interruption is noted and loses no step."""

import os
import signal
import subprocess
import sys
import time

import pytest

from thfm_ros import processes

SLEEPER = "import os, pathlib, sys, time\npathlib.Path(sys.argv[1]).write_text(str(os.getpid()))\ntime.sleep(600)\n"


@pytest.fixture
def sleeper(tmp_path, monkeypatch):
    """The name of a module that writes its process id into a file and sleeps."""
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    return "sleeper"


def wait_for(condition, timeout=60.0):
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return value


def pid_in(file):
    return wait_for(lambda: file.is_file() and file.read_text() and int(file.read_text()))


def gone(pid):
    """Ended; a zombie that nobody waits for counts."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_child_ends_with_its_parent(death, sleeper, tmp_path):
    code = f"from thfm_ros import processes; processes.run({sleeper!r}, {str(tmp_path / 'pid')!r})"
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    pid = pid_in(tmp_path / "pid")
    parent.send_signal(death)
    parent.wait(60)
    wait_for(lambda: gone(pid))


def test_a_child_whose_parent_is_gone_already_does_not_begin(sleeper, tmp_path):
    command = [sys.executable, "-m", "thfm_ros.processes", "1", "9", sleeper, str(tmp_path / "pid")]
    assert subprocess.run(command, check=False).returncode == -9  # 1 is not this process
    assert not (tmp_path / "pid").exists()


def test_a_run_can_be_stopped(sleeper, tmp_path):
    file = tmp_path / "pid"
    with pytest.raises(processes.Stopped):
        processes.run(sleeper, str(file), stop=file.is_file)
    assert gone(pid_in(file))


def test_a_run_gives_back_what_was_printed_and_the_exit_code(tmp_path, monkeypatch):
    (tmp_path / "talker_module.py").write_text(
        "import sys\nif __name__ == '__main__':\n    print(sys.argv[1:])\n    sys.exit('no')\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    done = processes.run("talker_module", "--a", "b")
    assert (done.returncode, done.stdout, done.stderr) == (1, "['--a', 'b']\n", "no\n")


def test_the_first_signal_is_noted_and_the_second_obeyed():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), processes.Interrupts() as interrupts:  # noqa: PT012
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.noted == signal.SIGTERM
        with pytest.raises(SystemExit, match="143"):
            interrupts.leave()
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the second was not obeyed")
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_signal_ends_a_wait_at_once_and_a_step_when_it_is_done():
    reached = []

    def items(waits):
        yield 0
        if waits:
            os.kill(os.getpid(), signal.SIGTERM)
            reached.append("after the signal")
        yield 1

    for waits, expected in ((True, [0, "0 done"]), (False, [0, "0 done", 1, "1 done"])):
        steps = []
        with processes.Interrupts() as interrupts, pytest.raises(SystemExit, match="143"):  # noqa: PT012
            for item in interrupts.between(items(waits)):
                steps.append(item)
                if item == 1:
                    os.kill(os.getpid(), signal.SIGTERM)
                steps.append(f"{item} done")
        assert steps == expected
    assert not reached


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with processes.Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)
            assert interrupts.noted is None
    finally:
        signal.signal(signal.SIGHUP, before)
