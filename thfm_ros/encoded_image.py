"""Decodes one encoded picture (JPEG, PNG, ...) and refuses one that has lost its end.

OpenCV 4 gives a JPEG whose data end too early with whatever was in its memory, and OpenCV 5 refuses one that lacks
nothing but the end marker, as many USB cameras send it. So the structure of a JPEG is read here.
"""

from __future__ import annotations

import re

import cv2
import numpy as np

_SIGNATURES = (  # as files of these kinds begin
    (rb"\xff\xd8\xff", "jpeg"),
    (rb"\x89PNG\r\n\x1a\n", "png"),
    (rb"BM", "bmp"),
    (rb"RIFF....WEBP", "webp"),
    (rb"II\*\x00|MM\x00\*", "tiff"),
    (rb"\x00\x00\x00.ftyp(avif|avis)", "avif"),
)
_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")  # stuffed 0xff and restarts belong to the data of a scan
_PROGRESSIVE, _START, _END, _SCAN, _RESTART_INTERVAL = 0xC2, 0xD8, 0xD9, 0xDA, 0xDD
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers that begin a frame: its size follows
_FILLER = bytes(range(1, 255, 4))  # as data of a scan it makes blocks that are not flat


def image_format(data: bytes) -> str:
    """The kind of picture by its first bytes: jpeg, png, bmp, webp, tiff or avif; "" for anything else."""
    return next((name for start, name in _SIGNATURES if re.match(start, data, re.DOTALL)), "")


def image_size(data: bytes | memoryview) -> tuple[int, int] | None:
    """Width, height by the header of a JPEG or PNG, without decoding it; None for anything else.

    An EXIF orientation does not count: the size is that of the pixels as they were encoded.
    """
    kind = image_format(bytes(data[:16]))
    if kind == "png" and len(data) >= 24:
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    at = 2
    while kind == "jpeg" and at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _FRAMES:
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def decode_image(data: bytes, flags: int = cv2.IMREAD_COLOR) -> np.ndarray:
    """(H, W) or (H, W, C) of an encoded picture, channels in OpenCV's order (BGR).

    flags: OpenCV's; IMREAD_UNCHANGED keeps depth and alpha and ignores the EXIF orientation, which IMREAD_COLOR and
        IMREAD_GRAYSCALE apply.
    ValueError that says what is wrong with the bytes. Less than the last 16x16 pixels of a JPEG may be missing.
    """
    if image_format(data) == "jpeg":
        return _decode_jpeg(data, flags)
    image = opencv_image(data, flags)
    if image is None:
        kind = image_format(data)
        raise ValueError(f"a {kind} image that is damaged" if kind else "no image that OpenCV reads")
    return image


def opencv_image(data: bytes, flags: int) -> np.ndarray | None:
    """What OpenCV makes of the bytes, whole or not; None where it makes nothing."""
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error:  # raised where a damaged header claims more pixels than OpenCV or the memory takes
        return None


def _decode_jpeg(data: bytes, flags: int) -> np.ndarray:
    scan, filler, doubtful = _split(data)
    plain = flags | cv2.IMREAD_IGNORE_ORIENTATION  # the last block is at the lower right
    image = _opencv(scan, plain)
    if (doubtful or _ends_flat(image)) and not np.array_equal(_opencv(scan + filler, plain), image):
        raise ValueError("a jpeg image whose data end too early")
    return image if plain == flags else _opencv(scan, flags)


def _opencv(scan: bytes, flags: int) -> np.ndarray:
    image = opencv_image(scan + b"\xff\xd9", flags)
    if image is None:
        raise ValueError("a jpeg image that is damaged")
    return image


def _split(data: bytes) -> tuple[bytes, bytes, bool]:
    """A JPEG up to the end of its last scan's data, what a decoder takes for more data if it misses some, and whether
    some may be missing without flat blocks (progressive, no end marker). ValueError where there is no scan."""
    at, begin, end, kind, restarts, progressive = 2, 0, len(data), 0, 0, False
    while found := _MARKER.search(data, at):
        kind, body = found[1][0], found.end()
        if kind in (_START, _END):
            end = found.start()
            break
        at = body + int.from_bytes(data[body : body + 2], "big")
        progressive |= kind == _PROGRESSIVE
        if kind == _RESTART_INTERVAL:
            restarts = int.from_bytes(data[body + 2 : body + 4], "big")
        if kind == _SCAN:
            begin = at
    if not 0 < begin < end:
        raise ValueError("a jpeg image whose data end before its first pixel")
    doubtful = progressive and kind != _END
    scan = data[:end].rstrip(b"\xff")  # half of a stuffed 0xff, or padding
    if kind != _END and scan.endswith(bytes(8)):  # padding too
        scan = scan.rstrip(b"\0")
        scan += b"\0" if scan.endswith(b"\xff") else b""
    if not restarts:
        return scan, _FILLER, doubtful
    markers = re.findall(rb"\xff[\xd0-\xd7]", scan[begin:])
    following = 0xD0 + (markers[-1][1] + 1 & 7 if markers else 0)
    return scan, _FILLER + bytes((0xFF, following)) + _FILLER, doubtful


def _ends_flat(image: np.ndarray) -> bool:
    """True where the last block is medium gray, as blocks without data are: or the picture is like that."""
    height, width = image.shape[:2]
    block = image[(height - 1) // 8 * 8 :, (width - 1) // 8 * 8 :]
    luma = cv2.cvtColor(block, cv2.COLOR_BGR2GRAY) if block.ndim == 3 else block
    return bool(np.abs(luma.astype(int) - 128).max() <= 2)
