"""What navigation wants of people: whom to follow, where they are and how they move, in the frame it works in."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from std_msgs.msg import Header

from thfm_ros.nodes import detections
from thfm_ros.nodes.hri import body_id
from thfm_ros.nodes.poses import to_pose
from thfm_ros.nodes.target_frame import TargetFrame
from thfm_ros.stream.body import Frame, body_of
from thfm_ros.stream.motion import Velocities
from thfm_ros.stream.people import Person
from thfm_ros.stream.target import Target

TARGET, POSITIONS, BOXES = "~/people/target_pose", "people/positions", "people/detections_3d"
LISTS = (POSITIONS, BOXES)  # published also where nobody is in view
# Of somebody whose torso says nothing: they look into the camera.
FACING = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]])


class Navigation:
    """Messages in `frame`: the camera's where its name is empty. Velocities there do not have the robot's own motion
    in them, where that frame is a fixed one.

    Args:
        msgs: topic -> message module of the optional package that its type is from; those missing are not made.
    """

    def __init__(self, node: Node, frame: str, msgs: dict[str, Any]) -> None:
        self._frame, self._msgs = TargetFrame(node, frame), msgs
        self._target, self._velocities = Target(), Velocities()

    def destroy(self) -> None:
        """Ends listening to tf."""
        self._frame.destroy()

    def begin_pass(self) -> None:
        """The frames of one pass follow."""
        self._frame.begin_pass()

    @property
    def problem(self) -> str:
        """Why nothing could be stated in that frame; "" where it could."""
        return self._frame.problem

    def messages(self, people: Sequence[Person], header: Header, who: str, wanted: Collection[str]) -> dict[str, Any]:
        """topic -> message, of those wanted; nothing where tf does not know the camera.

        Args:
            header: of the image. who: parameter `follow`.
        """
        camera = self._frame.camera(header) if set(wanted) & {TARGET, *LISTS} else None
        if camera is None:
            return {}
        there = self._frame.header(header)
        located = [p for p in people if p.located]
        found: dict[str, Any] = {}
        if TARGET in wanted and (chosen := self._choose(who, located)) is not None:
            found[TARGET] = PoseStamped(header=there, pose=to_pose(self._pose(chosen, header, camera)))
        if POSITIONS in wanted:
            moving = [(p, _seen_from(camera, p.root), self._velocity(p, header, camera)) for p in located]
            found[POSITIONS] = detections.positions(moving, there, self._msgs[POSITIONS])
        if BOXES in wanted:
            placed = [self._placed(p, header, camera) for p in located]
            found[BOXES] = detections.boxes_3d(placed, there, self._msgs[BOXES])
        return found

    def nobody(self, header: Header, topics: Collection[str]) -> dict[str, Any]:
        """topic -> an empty list, for those of LISTS among the topics."""
        there = self._frame.header(header)
        empty = {POSITIONS: detections.positions, BOXES: detections.boxes_3d}
        return {t: empty[t]([], there, self._msgs[t]) for t in LISTS if t in topics}

    def _choose(self, who: str, people: Sequence[Person]) -> Person | None:
        bodies = {body_id(p): p.id for p in people}
        return self._target.choose(bodies.get(who, who), people)

    def _pose(self, person: Person, header: Header, camera: Frame) -> Frame:
        """The body's frame. In a frame other than the camera's, which has z up (REP-103), only its heading counts: who
        bends forward still looks ahead."""
        body = body_of(person)
        axes = camera.axes @ (FACING if body is None else body.frame.axes)
        if not self._frame.is_camera(header):
            x, y = axes[0, 0], axes[1, 0]
            length = max(float(np.hypot(x, y)), 1e-9)
            c, s = x / length, y / length
            axes = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        return Frame(axes, _seen_from(camera, person.root))

    def _placed(self, person: Person, header: Header, camera: Frame) -> tuple[Person, np.ndarray, Frame, np.ndarray]:
        joints = person.xyz @ camera.axes.T + camera.origin
        return person, joints, self._pose(person, header, camera), camera.axes @ person.covariance @ camera.axes.T

    def _velocity(self, person: Person, header: Header, camera: Frame) -> np.ndarray:
        if self._frame.is_camera(header):
            return person.velocity
        stamp_ns = header.stamp.sec * 1_000_000_000 + header.stamp.nanosec
        return self._velocities.update(person.id, stamp_ns, _seen_from(camera, person.root), person.measured)


def _seen_from(camera: Frame, xyz: np.ndarray) -> np.ndarray:
    return camera.axes @ xyz + camera.origin
