"""A better backend that was refused is a WARN in the log and in /diagnostics, for as long as another one runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from node_harness import System, wait_for
from rcl_interfaces.msg import Log
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.logging import LoggingSeverity
from rclpy.parameter import Parameter
from stream_fakes import FakeRuntime

from thfm_ros.engine.refusals import Refusal, warnings
from thfm_ros.nodes.perception_node import PerceptionNode


@dataclass
class Second(FakeRuntime):
    """What `auto` gives where the first choice does not work."""

    computed_in: str = "fp32"
    warnings: tuple[str, ...] = ()


def backend_status(messages: list[Any]) -> DiagnosticStatus | None:
    found = [s for m in messages for s in m.status if s.name == "perception: backend"]
    return found[-1] if found else None


def test_a_refusal_is_a_warning_in_the_log_and_in_diagnostics(ros: System) -> None:
    (line,) = warnings([Refusal("openvino", "bf16", "golden check of stage decode: found 3")], "onnxruntime", "fp32")
    diagnostics = ros.listen(DiagnosticArray, "/diagnostics", wait=False)
    log = ros.latched(Log, "/rosout")  # said once, maybe before the listener is known
    node = ros.perception(Second(warnings=(line,)))
    status = wait_for(lambda: backend_status(diagnostics), what="the backend's status")
    assert status.level == DiagnosticStatus.WARN
    assert status.message == line
    values = {v.key: v.value for v in status.values}
    assert values == {"Backend": "fake", "Precision": "fp32", "Refused": "1", "Refused 1": line}
    wait_for(lambda: any(m.level == LoggingSeverity.WARN and m.msg == line for m in log), what="the warning in the log")
    assert node.reports.refused == [line]


def test_stages_of_tasks_that_do_not_run_are_not_asked_for(ros: System, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def record(path: str, **options: Any) -> FakeRuntime:
        asked.update(options, path=path)
        return FakeRuntime()

    monkeypatch.setattr("thfm_ros.engine.load.load_runtime", record)
    node = PerceptionNode(
        context=ros.context,
        parameter_overrides=[
            Parameter("bundle", value="a"),
            Parameter("tasks", value=["scene_depth", "foreground"]),
            Parameter("autostart", value=False),
        ],
    )
    ros.extra.append(node)
    assert node.on_configure(None) == TransitionCallbackReturn.SUCCESS  # type: ignore[arg-type]
    assert (asked["path"], list(asked["tasks"])) == ("a", ["scene_depth", "foreground"])
    node.close()


def test_where_the_best_backend_runs_the_status_is_ok(ros: System) -> None:
    diagnostics = ros.listen(DiagnosticArray, "/diagnostics", wait=False)
    ros.perception()
    status = wait_for(lambda: backend_status(diagnostics), what="the backend's status")
    assert (status.level, status.message) == (DiagnosticStatus.OK, "fake")


def test_the_line_says_which_why_what_runs_and_what_it_costs() -> None:
    known, unknown = (
        warnings([Refusal(backend, precision, "no such layer")], "onnxruntime", "fp32")[0]
        for backend, precision in (("openvino", "bf16"), ("tensorrt", "fp16"))
    )
    assert known.startswith("OpenVINO in bf16 refused: no such layer; running ONNX Runtime in fp32 instead, ")
    assert "times slower" in known
    assert unknown == "TensorRT in fp16 refused: no such layer; running ONNX Runtime in fp32 instead"
