"""The URDF of a body of REP-155: links and joints of its kinematic model, with this person's own lengths.

Names end in the body's id, as several bodies may be there at once. Limbs are cylinders, for whoever shows them.
"""

from __future__ import annotations

from xml.etree import ElementTree as Xml

import numpy as np

from thfm_ros.stream.body import SIDES, Body

RADIUS_M = 0.03  # of the limbs
HEAD_RADIUS_M = 0.1
LIMITS = (-3.15, 3.15)  # radians: whatever was seen is stated, also what no joint should do
Axis = tuple[int, int, int]
FIXED: Axis = (0, 0, 0)


def _joints(body: Body) -> list[tuple[str, str, str, Axis, np.ndarray]]:
    """Name, parent link, child link, axis and origin in the parent; without the id."""

    def distance(a: str, b: str) -> float:
        return float(np.linalg.norm(body.links[a].origin - body.links[b].origin))

    torso, nothing = distance("waist", "torso"), np.zeros(3)
    neck = body.links["head"].within(body.links["torso"]).origin[2]
    rows: list[tuple[str, str, str, Axis, np.ndarray]] = [
        ("waist", "body", "waist", (0, 1, 0), nothing),
        ("torso", "waist", "torso", FIXED, np.array([0, 0, torso])),
        ("r_head", "torso", "r_head", (1, 0, 0), np.array([0, 0, neck])),
        ("y_head", "r_head", "y_head", (0, 0, 1), nothing),
        ("p_head", "y_head", "p_head", (0, -1, 0), nothing),
        ("head", "p_head", "head", FIXED, nothing),
    ]
    for s in SIDES:
        out = 1 if s == "l" else -1
        for parent, (first, middle, last), yaw, roll in (
            ("torso", ("shoulder", "elbow", "wrist"), (0, 0, -out), (0, 0, out)),
            ("body", ("hip", "knee", "ankle"), (0, 0, -1), (0, -1, 0)),
        ):
            beside = np.array([0, out * distance(f"l_{first}", f"r_{first}") / 2, 0])
            upper = np.array([0, 0, -distance(f"{s}_{first}", f"{s}_{middle}")])
            lower = np.array([0, 0, -distance(f"{s}_{middle}", f"{s}_{last}")])
            rows += [
                (f"{s}_y_{first}", parent, f"{s}_y_{first}", yaw, beside),
                (f"{s}_p_{first}", f"{s}_y_{first}", f"{s}_p_{first}", (out, 0, 0), nothing),
                (f"{s}_r_{first}", f"{s}_p_{first}", f"{s}_{first}", roll, nothing),
                (f"{s}_{middle}", f"{s}_{first}", f"{s}_{middle}", (0, -1, 0), upper),
                (f"{s}_{last}", f"{s}_{middle}", f"{s}_{last}", FIXED, lower),
            ]
    return rows


def urdf(body: Body, identity: str) -> str:
    """Returns the robot description of this body; `identity` ends every name."""
    robot = Xml.Element("robot", name=f"human_{identity}")
    rows = _joints(body)
    reach = {parent: origin for _, parent, _, _, origin in rows if parent not in ("body", "torso")}
    for link in ("body", *(child for _, _, child, _, _ in rows)):
        element = Xml.SubElement(robot, "link", name=f"{link}_{identity}")
        if link == "head":
            _visual(element, np.zeros(3), Xml.Element("sphere", radius=str(HEAD_RADIUS_M)))
        elif link in reach and np.linalg.norm(reach[link]) > 0:
            shape = Xml.Element("cylinder", radius=str(RADIUS_M), length=f"{np.linalg.norm(reach[link]):.4f}")
            _visual(element, reach[link] / 2, shape)
    for name, parent, child, axis, origin in rows:
        kind = "fixed" if axis == FIXED else "revolute"
        joint = Xml.SubElement(robot, "joint", name=f"{name}_{identity}", type=kind)
        Xml.SubElement(joint, "parent", link=f"{parent}_{identity}")
        Xml.SubElement(joint, "child", link=f"{child}_{identity}")
        Xml.SubElement(joint, "origin", xyz=_numbers(origin), rpy="0 0 0")
        if kind == "revolute":
            Xml.SubElement(joint, "axis", xyz=_numbers(np.array(axis)))
            Xml.SubElement(joint, "limit", lower=str(LIMITS[0]), upper=str(LIMITS[1]), effort="0", velocity="0")
    return Xml.tostring(robot, encoding="unicode")


def _visual(link: Xml.Element, middle: np.ndarray, shape: Xml.Element) -> None:
    visual = Xml.SubElement(link, "visual")
    Xml.SubElement(visual, "origin", xyz=_numbers(middle), rpy="0 0 0")
    Xml.SubElement(visual, "geometry").append(shape)


def _numbers(v: np.ndarray) -> str:
    return " ".join(f"{x:.4f}" for x in v)
