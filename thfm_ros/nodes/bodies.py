"""Publishers of REP-155: the list of bodies, and for each body topics that come and go with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rclpy.lifecycle import LifecycleNodeMixin
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from std_msgs.msg import Header

from thfm_ros.nodes import hri
from thfm_ros.nodes.message_types import message_type
from thfm_ros.nodes.topics import PUBLISHED, latched, profile
from thfm_ros.stream.body import body_of
from thfm_ros.stream.estimator import FrameResult
from thfm_ros.stream.people import Person

PREFIX = "/humans/bodies/<id>/"
TOPICS = {t.name.removeprefix(PREFIX): t for t in PUBLISHED if t.name.startswith(PREFIX)}


class Bodies:
    """What is published of each body.

    Args:
        publish_list: publishes /humans/bodies/tracked.
        msgs: the module hri_msgs.msg.
    """

    def __init__(self, node: LifecycleNodeMixin, publish_list: Callable[[Any], None], msgs: Any) -> None:
        self._node, self._publish_list, self._msgs = node, publish_list, msgs
        self._publishers: dict[str, dict[str, Publisher]] = {}  # body id -> topic -> publisher
        self._described: set[str] = set()  # bodies whose URDF is out

    def __bool__(self) -> bool:
        """True while a body has topics."""
        return bool(self._publishers)

    def destroy(self) -> None:
        """Ends every body's topics."""
        for identity in list(self._publishers):
            self._end(identity)

    def listened(self) -> set[str]:
        """Names of PUBLISHED that somebody listens to, of any body."""
        return {
            PREFIX + name
            for topics in self._publishers.values()
            for name, publisher in topics.items()
            if publisher.get_subscription_count()
        }

    def publish(self, people: Sequence[Person], header: Header, result: FrameResult | None) -> None:
        """The list, and what is listened to of each body.

        Args:
            result: the frame, for what is cut out of its image; None where nobody is in view.
        """
        bodies = {hri.body_id(p): p for p in people}
        gone = set(self._publishers) - set(bodies)
        for identity in gone:
            self._end(identity)
        for identity, person in bodies.items():
            self._publish_one(identity, person, header, result)
        ids = [*bodies, *hri.other_bodies(self._node, own=gone | set(bodies))]
        self._publish_list(hri.ids_list(ids, header, self._msgs))

    def _publish_one(self, identity: str, person: Person, header: Header, result: FrameResult | None) -> None:
        topics = self._publishers.get(identity) or self._begin(identity)
        body = body_of(person)
        if body is not None and identity not in self._described:
            topics["urdf"].publish(hri.description(body, identity))  # latched: for whoever comes later
            self._described.add(identity)
        makers: dict[str, Callable[[], Any]] = {
            "roi": lambda: hri.region(person, header, self._msgs),
            "cropped": lambda: None if result is None else hri.cropped(person, header, result.image),
            "skeleton2d": lambda: hri.skeleton2d(person, header, self._msgs),
        }
        if body is not None:
            makers |= {
                "position": lambda: hri.position(body, header),
                "velocity": lambda: hri.velocity(person, body, identity, header),
                "joint_states": lambda: hri.joint_states(body, identity, header),
            }
        for name, make in makers.items():
            if topics[name].get_subscription_count() and (message := make()) is not None:
                topics[name].publish(message)

    def _begin(self, identity: str) -> dict[str, Publisher]:
        self._publishers[identity] = {
            name: self._create(message_type(topic.type), f"/humans/bodies/{identity}/{name}", name)
            for name, topic in TOPICS.items()
        }
        return self._publishers[identity]

    def _create(self, kind: Any, topic: str, name: str) -> Publisher:
        """Comes and goes with a person: no override parameters, which would pile up; active at once."""
        qos: QoSProfile = latched() if name == "urdf" else profile("reliable", 5)
        publisher = self._node.create_lifecycle_publisher(kind, topic, qos)
        publisher.on_activate(None)
        return publisher

    def _end(self, identity: str) -> None:
        for publisher in self._publishers.pop(identity).values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._described.discard(identity)
