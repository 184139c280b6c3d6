"""The lifecycle node `perception`: parameters, states and reports around the stream estimator.

unconfigured -configure-> inactive (model loaded, publishers made) -activate-> active (subscribed, worker runs).
Transitions run in their own callback group, so that get_state works while a model loads.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import rclpy
from rcl_interfaces.msg import SetParametersResult
from rclpy._rclpy_pybind11 import RCLError
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import InvalidHandle
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNodeMixin, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from thfm_ros.errors import ParameterError, UserError
from thfm_ros.nodes import parameters
from thfm_ros.nodes.control import Control
from thfm_ros.nodes.executor import NodeExecutor, spin
from thfm_ros.nodes.inputs import Inputs
from thfm_ros.nodes.logs import Throttled, ensure_log_folder
from thfm_ros.nodes.maps import MapSettings
from thfm_ros.nodes.model import default_loader, first_pass, lacking, no_task
from thfm_ros.nodes.outputs import Outputs, OutputSettings, require_packages
from thfm_ros.nodes.reports import Reports
from thfm_ros.nodes.ros_arguments import wrong_argument
from thfm_ros.nodes.worker import Settings, Worker
from thfm_ros.stream.buffer import ClipBuffer
from thfm_ros.stream.estimator import StreamConfig, StreamEstimator

if TYPE_CHECKING:
    from thfm_ros.engine.runtime import Runtime

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
LONGEST_RETRY_S = 30.0


class PerceptionNode(LifecycleNodeMixin, Node):
    """See docs/node.md for topics and parameters.

    Args:
        load: (bundle, backend, threads, stop) -> Runtime; soon after stop() begins to return True it raises. None:
            `default_loader`, for the parameter `tasks`.
        **options: of rclpy's Node (namespace, context, parameter_overrides, ...).
    """

    def __init__(
        self,
        name: str = "perception",
        load: Callable[[str, str, int, Callable[[], bool]], Runtime] | None = None,
        **options: Any,
    ) -> None:
        Node.__init__(self, name, **options)
        # What LifecycleNode does, but with a callback group of its own for the services.
        LifecycleNodeMixin.__init__(self, callback_group=ReentrantCallbackGroup())
        self._load = load or (lambda *asked: default_loader(*asked, tasks=self._current["tasks"]))
        parameters.declare(self)
        self._current = parameters.values(self)
        self.add_on_set_parameters_callback(self._validate_tasks)
        self.add_post_set_parameters_callback(self._on_parameters)
        self._runtime: Runtime | None = None
        self._estimator: StreamEstimator | None = None
        self.buffer: ClipBuffer | None = None
        self._outputs: Outputs | None = None
        self._inputs: Inputs | None = None
        self._worker: Worker | None = None
        self._throttled = Throttled(self.get_logger().warning)
        self.reason = ""  # why the last transition failed, or the model was lost
        self._lost = threading.Event()
        self._closing, self._loading = threading.Event(), threading.Lock()
        self._paused, self._switching = False, threading.RLock()  # by ~/enable, while active
        self._driving = False  # a transition of our own, not of a manager
        self._wants_active = bool(self._current["autostart"])  # and what was active is restored after a lost model
        self._retry_at, self._retry_s = 0.0, 0.0
        self.reports = Reports(self)
        self._control = Control(self, self._enable, self._reset, self._in_view)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._supervisor = self.create_timer(
            0.1, self._supervise, callback_group=MutuallyExclusiveCallbackGroup(), clock=steady
        )
        self._reporter = self.create_timer(
            self._current["diagnostics_period_s"],
            self._report,
            callback_group=MutuallyExclusiveCallbackGroup(),
            clock=steady,
        )

    def _LifecycleNodeMixin__change_state(self, transition: int) -> TransitionCallbackReturn:
        """Overrides rclpy's, by its mangled name: every request passes here, a manager's and our own.

        There one that does not fit the state is an RCLError, which would end the process; here it is a FAILURE.
        """
        try:
            return super()._LifecycleNodeMixin__change_state(transition)  # type: ignore[misc]
        except RCLError:
            if self.alive():
                graph, fit = self._state_machine.transition_graph, self._state_machine.available_transitions
                name = next((label for number, label, *_ in graph if number == transition), transition)
                asked = ", ".join(label for _, label, *_ in fit if not label.startswith("transition_"))
                expected = f"expected one of {asked}" if asked else "expected none now"
                self.get_logger().warning(f"refused transition {name} while {self.state}: {expected}")
            return FAILURE

    # Transitions. An exception in one would be swallowed by rclpy: each reports and returns FAILURE instead.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        with self._loading:
            return self._configure(state)

    def _configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        p = self._current
        started = time.monotonic()
        try:
            require_packages(p["publish_tf"], p["target_frame"])
            self._runtime = self._load(p["bundle"], p["backend"], p["threads"], self._ending)
            self._estimator = StreamEstimator(self._runtime, self.settings().stream)
            first_pass(self._runtime, p["tasks"])
            manifest = self._runtime.manifest
            self.buffer = ClipBuffer(manifest.fps, capacity=manifest.frames)
            self._pace()
            self._outputs = Outputs(self, p["publish_tf"], p["target_frame"])
            self.reports.configure(self._runtime, p["min_output_hz"])
        except Exception as error:
            self._release()
            return self._fail("configure", error)
        seconds = time.monotonic() - started
        self.get_logger().info(
            f"model ready in {seconds:.1f} s: {manifest.frames} frames of {manifest.width}x{manifest.height} at "
            f"{manifest.fps:g} Hz, backend {manifest.backend}{'' if manifest.trained else ', RANDOM WEIGHTS'}"
        )
        for line in (
            *self.reports.refused,
            *self._estimator.shortcomings,
            *lacking(manifest.tasks, p["tasks"]),
        ):
            self.get_logger().warning(line)
        self.reason = ""
        if not self._driving:
            self._wants_active = False  # who configures by hand also activates by hand
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self._lost.clear()
            result = super().on_activate(state)
            self._start()
        except Exception as error:
            self._stop()
            return self._fail("activate", error)
        self._wants_active, self._retry_s, self.reason, self._paused = True, 0.0, "", False
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        if not self._driving:
            self._wants_active = False
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        if not self._driving:
            self._wants_active = False
        result = super().on_cleanup(state)
        self._release()
        return result

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._wants_active = False
        self._stop()
        self._release()
        return SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop()
        self._release()
        return SUCCESS  # back to unconfigured, from where a manager may try again

    def _fail(self, transition: str, error: Exception) -> TransitionCallbackReturn:
        text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        if not self.alive():
            return FAILURE  # shut down meanwhile: nothing to report, nobody to report to
        self.reason = f"{transition} failed: {' '.join(text.split())}"
        if isinstance(error, ParameterError) and self._wants_active:
            self._wants_active = False
            self.reason += "; not tried again with this parameter: correct it and configure"
        self.get_logger().error(self.reason)
        return FAILURE

    def _start(self) -> None:
        """Begins to subscribe and to work, on a new clip."""
        p = self._current
        assert self.buffer is not None
        assert self._estimator is not None
        assert self._outputs is not None
        self.buffer.reset()
        self._estimator.reset()
        self.reports.start()
        slop = p["depth_slop_s"] if p["use_depth_camera"] else None
        compressed = p["image_transport"] == "compressed"
        self._inputs = Inputs(
            self, self._offer, self.buffer.ledger.refused, self.reports.on_lost, self.warn, compressed, slop
        )
        self._worker = Worker(self, self.buffer, self._estimator, self._inputs, self._outputs, self.reports.times)
        self._worker.start()

    def _stop(self) -> None:
        """Ends subscriptions and the worker; what waits is dropped and counted, and nobody is in view any more."""
        with self._switching:
            if self._inputs is not None:
                self._inputs.destroy()
                self._inputs = None
            if self._worker is not None:
                if not self._worker.stop():
                    self.get_logger().error("the running pass does not end; going on without waiting for it")
                self._worker = None
            if self.buffer is not None:
                self.buffer.reset()
            if self._outputs is not None:
                try:
                    self._outputs.clear()
                except Exception as error:
                    if self.alive():  # else ROS is gone, and with it whoever would read it
                        self.get_logger().warning(f"could not publish that no person is in view any more: {error}")

    def _release(self) -> None:
        if self._outputs is not None:
            self._outputs.destroy()
            self._outputs = None
        if self._runtime is not None:
            try:
                self._runtime.close()
            except Exception as error:  # a lost device may refuse even this
                self.get_logger().warning(f"closing the model: {error}")
            self._runtime = None
        self._estimator = None

    # Supervision: autostart, and retries after a failed start or a lost model.

    @property
    def state(self) -> str:
        """Label of the lifecycle state."""
        return self._state_machine.current_state[1]

    def _supervise(self) -> None:
        state = self.state
        if state not in ("unconfigured", "inactive", "active"):
            return  # a transition is under way: judged once it has ended
        if self._lost.is_set():
            self._lost.clear()
            self.get_logger().error(f"the model is lost, unloading it: {self.reason}")
            if state == "active":
                self._drive(self.trigger_deactivate)
            if self.state == "inactive":
                self._drive(self.trigger_cleanup)
            self._retry_s = float(self._current["retry_s"])
            self._retry_at = time.monotonic() + self._retry_s
        elif self._wants_active and state != "active" and time.monotonic() >= self._retry_at:
            ready = state == "inactive" or self._drive(self.trigger_configure) == SUCCESS
            if not (ready and self._drive(self.trigger_activate) == SUCCESS) and self._wants_active:
                self._retry_s = min(max(2 * self._retry_s, float(self._current["retry_s"])), LONGEST_RETRY_S)
                self._retry_at = time.monotonic() + self._retry_s
                self.get_logger().info(f"next try in {self._retry_s:g} s")

    def _drive(self, transition: Callable[[], TransitionCallbackReturn]) -> TransitionCallbackReturn:
        self._driving = True
        try:
            return transition()
        finally:
            self._driving = False

    # What the worker and the callbacks ask for.

    def _offer(self, stamp_ns: int, message: Any) -> bool:
        assert self.buffer is not None
        self.reports.on_received(stamp_ns, self.now_ns())
        return self.buffer.offer(stamp_ns, message)

    def settings(self) -> Settings:
        p = self._current
        stream = StreamConfig(
            warmup=p["warmup"],
            output=p["output_resolution"],
            newest_only=p["newest_only"],
            **{name: p[name] for name in ("min_score", "max_people", "absence_s", "confirm_s")},
            max_depth_m=p["max_depth_m"],
            scale_half_life_s=p["scale_half_life_s"],
            joint_noise_m=p["joint_noise_m"],
        )
        outputs = OutputSettings(p["follow"].strip(), MapSettings(p["points_step"], p["jpeg_quality"]))
        return Settings(list(p["tasks"]), stream, p["rectified"], p["horizontal_fov_deg"], p["max_failures"], outputs)

    def _enable(self, on: bool) -> str:
        """Pauses or goes on, for ~/enable; why not, or ""."""
        with self._switching:
            if self.state != "active":
                return f"the node is {self.state}: activate it first"
            if on and self._paused:
                self._start()
            elif not on and not self._paused:
                self._stop()
            self._paused = not on
            return ""

    def _reset(self) -> str:
        """Forgets the stream, for ~/reset; why not, or ""."""
        if self.buffer is None or self.state != "active":
            return f"the node is {self.state}: there is no stream"
        self.buffer.reset()  # the worker ends the old clip when it takes the first frame of the new one
        return ""

    def _in_view(self) -> Collection[str]:
        outputs = self._outputs
        return outputs.in_view if outputs else ()

    def alive(self) -> bool:
        """False once ROS was shut down: nothing can be published any more."""
        return self.context.ok()

    def _ending(self) -> bool:
        """Whether what takes long is to be given up."""
        return self._closing.is_set() or not self.alive()

    def now_ns(self) -> int:
        return self.get_clock().now().nanoseconds

    def warn(self, text: str) -> None:
        self._throttled(text)

    def on_answered(self, count: int, ages_s: list[float]) -> None:
        self.reports.on_answered(count, ages_s)

    def on_lost(self, reason: str) -> None:
        self.reason = reason
        self._lost.set()

    def _validate_tasks(self, changed: list[Any]) -> SetParametersResult:
        """Refuses tasks of which the loaded model has none: nothing would be answered any more."""
        new = {p.name: p.value for p in changed}
        if self._runtime is not None and new.get("tasks") and "bundle" not in new:
            found = self._runtime.manifest.tasks
            if not set(new["tasks"]) & set(found):
                return SetParametersResult(successful=False, reason=no_task(found))
        return SetParametersResult(successful=True)

    def _on_parameters(self, changed: list[Any]) -> None:
        self._current = parameters.values(self)
        runtime = self._runtime
        if runtime is not None and any(p.name == "tasks" for p in changed):
            for line in lacking(runtime.manifest.tasks, self._current["tasks"]):
                self.get_logger().warning(line)
        self._pace()

    def _pace(self) -> None:
        """The buffer's parameters as they are now, also those that were set while the model loaded."""
        if self.buffer is not None:
            self.buffer.gap_s, self.buffer.stride = self._current["gap_s"], self._current["stride"]

    def _report(self) -> None:
        worker, inputs = self._worker, self._inputs
        problems, values = inputs.report() if inputs else ([], {})
        self.reports.publish(
            state="paused" if self._paused and self.state == "active" else self.state,
            reason=self.reason,
            totals=self.buffer.totals() if self.buffer else None,
            waiting=self.buffer.waiting if self.buffer else 0,
            camera_problem=worker.camera_problem if worker else "",
            pass_error=worker.last_error if worker else "",
            max_age_s=self._current["max_age_s"],
            disagreements=problems,
            camera={**values, **(worker.metres if worker else {})},
        )

    def close(self, patience_s: float = 1.0) -> bool:
        """Ends everything, also in the middle of a pass or an export; to be called before destroy_node.

        False where a model is being loaded for longer than `patience_s`: native code cannot be interrupted.
        """
        self._closing.set()
        self._wants_active = False
        for timer in (self._supervisor, self._reporter):
            with suppress(InvalidHandle):  # ROS may be gone already
                timer.cancel()
        self._stop()
        if not self._loading.acquire(timeout=patience_s):
            return False
        self._loading.release()
        self._release()
        return True


def main(args: list[str] | None = None) -> int:
    """Entry point of the executable `perception_node`; 2 where its arguments are wrong, and stay so."""
    ensure_log_folder()
    try:
        # rclpy's own handlers would shut ROS down first, and nobody would learn that nobody is in view any more.
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as SIGINT: KeyboardInterrupt
        node = PerceptionNode()
    except Exception as error:
        reason = str(error) if isinstance(error, UserError) else wrong_argument(error)
        if reason is None:
            raise
        print(f"perception_node: {reason}", file=sys.stderr)
        rclpy.try_shutdown()
        return 2
    executor = NodeExecutor(num_threads=4)
    executor.add_node(node)
    try:
        spin(executor)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):  # ending already; who has no patience sends SIGKILL
            signal.signal(number, signal.SIG_IGN)
        if not node.close():
            sys.stderr.flush()
            os._exit(0)  # nobody wants what is being compiled, and the interpreter would wait for its thread
        executor.shutdown(timeout_sec=5.0)
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
