"""Parameters of the small nodes (camera, recorder): read once at the start, then fixed."""

from __future__ import annotations

from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node

from thfm_ros.errors import UserError


def declare_fixed(node: Node, table: tuple[tuple[str, Any, str], ...]) -> dict[str, Any]:
    """name -> value of rows (name, default, description). A whole number is fine where a fraction is expected.

    UserError that names the parameter where a value is of another type than its default.
    """
    values = {}
    for name, default, description in table:
        # Dynamic: rclpy refuses 10 for 10.0, and does so with a traceback.
        descriptor = ParameterDescriptor(description=description, read_only=True, dynamic_typing=True)
        value = node.declare_parameter(name, default, descriptor).value
        if isinstance(default, float) and type(value) is int:
            value = float(value)
        if type(value) is not type(default):
            raise UserError(f"parameter {name} = {value!r}: expected a {type(default).__name__} like {default!r}")
        values[name] = value
    return values
