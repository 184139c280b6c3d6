"""sensor_msgs/Image as cyclonedds sees it (its types are looked up by module, so no lazy annotations here)."""

from dataclasses import dataclass

from cyclonedds.idl import IdlStruct
from cyclonedds.idl.types import int32, sequence, uint8, uint32


@dataclass
class DdsTime(IdlStruct, typename="builtin_interfaces::msg::dds_::Time_"):
    sec: int32
    nanosec: uint32


@dataclass
class DdsHeader(IdlStruct, typename="std_msgs::msg::dds_::Header_"):
    stamp: DdsTime
    frame_id: str


@dataclass
class DdsImage(IdlStruct, typename="sensor_msgs::msg::dds_::Image_"):
    header: DdsHeader
    height: uint32
    width: uint32
    encoding: str
    is_bigendian: uint8
    step: uint32
    data: sequence[uint8]
