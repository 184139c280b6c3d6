"""People as RViz markers: one SPHERE_LIST, one LINE_LIST and one TEXT a body; lost bodies are deleted."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from thfm_ros.stream.drawing import color_of, number_of
from thfm_ros.stream.people import Person

NAMESPACES = ("joints", "bones", "label")
JOINT_DIAMETER_M, BONE_WIDTH_M, TEXT_HEIGHT_M = 0.05, 0.025, 0.12


def _marker(namespace: str, kind: int, person: Person, header: Header, lifetime_s: float) -> Marker:
    r, g, b = color_of(person.id)
    marker = Marker(header=header, ns=namespace, id=number_of(person.id), type=kind, action=Marker.ADD)
    marker.pose.orientation.w = 1.0
    marker.color = ColorRGBA(r=r, g=g, b=b, a=1.0)
    marker.lifetime = Duration(sec=int(lifetime_s), nanosec=int(lifetime_s % 1 * 1e9))
    return marker


def people_to_markers(
    people: Iterable[Person], lost: Iterable[str], header: Header, lifetime_s: float, min_confidence: float = 0.3
) -> MarkerArray:
    """Markers of the people whose place is known; DELETE for each id in `lost`.

    Joints less sure than `min_confidence` are faded; bones need both of their joints to be surer than that.
    """
    array = MarkerArray()
    for person in people:
        if not person.located:
            continue
        points = [Point(x=float(x), y=float(y), z=float(z)) for x, y, z in person.xyz]
        r, g, b = color_of(person.id)
        joints = _marker("joints", Marker.SPHERE_LIST, person, header, lifetime_s)
        joints.scale.x = joints.scale.y = joints.scale.z = JOINT_DIAMETER_M
        joints.points = points
        joints.colors = [ColorRGBA(r=r, g=g, b=b, a=1.0 if c > min_confidence else 0.3) for c in person.confidence]
        bones = _marker("bones", Marker.LINE_LIST, person, header, lifetime_s)
        bones.scale.x = BONE_WIDTH_M
        sure = person.confidence > min_confidence
        bones.points = [points[j] for a, b in person.joint_set.bones if sure[a] and sure[b] for j in (a, b)]
        label = _marker("label", Marker.TEXT_VIEW_FACING, person, header, lifetime_s)
        label.scale.z = TEXT_HEIGHT_M
        top = person.xyz[np.argmin(person.xyz[:, 1])]  # y points down
        label.pose.position = Point(x=float(top[0]), y=float(top[1]) - 2 * TEXT_HEIGHT_M, z=float(top[2]))
        label.text = f"{person.id} {100 * person.score:.0f}%"
        array.markers += [joints, bones, label] if bones.points else [joints, label]
    for identity in lost:
        for namespace in NAMESPACES:
            gone = Marker(header=header, ns=namespace, id=number_of(identity), action=Marker.DELETE)
            gone.pose.orientation.w = 1.0
            array.markers.append(gone)
    return array
