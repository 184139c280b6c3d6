"""Every encoding against a picture whose colours are known, with padding and byte order; and what is refused."""

from __future__ import annotations

import array
import struct

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from thfm_ros.errors import UserError
from thfm_ros.nodes.images import COLOR_ENCODINGS, compressed_to_rgb, depth_to_metres, image_to_rgb, to_image
from thfm_ros.nodes.inputs import to_rgb

# Large flat areas: chroma subsampling and demosaicing are exact inside them.
PICTURE = np.zeros((32, 48, 3), np.uint8)
PICTURE[:, :16] = (200, 40, 30)
PICTURE[:, 16:32] = (30, 180, 60)
PICTURE[:, 32:] = (20, 50, 210)
INSIDE = [(16, 8), (16, 24), (16, 40), (8, 24)]


def message(
    data: np.ndarray, encoding: str, width: int = 48, height: int = 32, padding: int = 0, big: int = 0
) -> Image:
    """An Image whose rows are those of `data` (rows, bytes), each padded with garbage."""
    rows = data.reshape(data.shape[0], -1).view(np.uint8)
    rows = np.concatenate([rows, np.full((len(rows), padding), 170, np.uint8)], 1)
    return Image(
        width=width, height=height, encoding=encoding, step=rows.shape[1], is_bigendian=big,
        data=array.array("B", rows.tobytes()),
    )  # fmt: skip


def mosaic(pattern: str) -> np.ndarray:
    out = np.zeros(PICTURE.shape[:2], np.uint8)
    for i, color in enumerate(pattern):
        out[i // 2 :: 2, i % 2 :: 2] = PICTURE[i // 2 :: 2, i % 2 :: 2, "rgb".index(color)]
    return out


def yuv_planes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """BT.601 limited range, which the ROS encodings mean."""
    r, g, b = PICTURE.astype(float).transpose(2, 0, 1)
    y = 16 + 0.257 * r + 0.504 * g + 0.098 * b
    u = 128 - 0.148 * r - 0.291 * g + 0.439 * b
    v = 128 + 0.439 * r - 0.368 * g - 0.071 * b
    return tuple(np.round(p).astype(np.uint8) for p in (y, u, v))


def encoded(encoding: str) -> tuple[np.ndarray, bool]:
    """(rows of bytes, whether colour survives) of PICTURE; 16-bit ones in little endian."""
    y, u, v = yuv_planes()
    gray = cv2.cvtColor(PICTURE, cv2.COLOR_RGB2GRAY)
    opaque = np.full((32, 48, 1), 255, np.uint8)
    if encoding.startswith("bayer_"):
        plane = mosaic(encoding[6:10])
        return (plane.astype("<u2") * 256 if encoding.endswith("16") else plane), True
    packed = {"yuv422": (u, y, v), "uyvy": (u, y, v), "yuv422_yuy2": (y, u, v), "yuyv": (y, u, v)}
    if encoding in packed:
        out = np.zeros((32, 48, 2), np.uint8)
        chroma = np.where(np.arange(48) % 2 == 0, u, v)
        luma_at = 1 if encoding in ("yuv422", "uyvy") else 0
        out[..., luma_at], out[..., 1 - luma_at] = y, chroma
        return out, True
    if encoding in ("nv12", "nv21"):
        pair = (u, v) if encoding == "nv12" else (v, u)
        chroma = np.stack([p[::2, ::2] for p in pair], -1).reshape(16, 48)
        return np.concatenate([y, chroma]), True
    bgr = PICTURE[..., ::-1]
    table = {
        "rgb8": (PICTURE, True), "bgr8": (bgr, True), "8UC3": (bgr, True),
        "rgba8": (np.concatenate([PICTURE, opaque], 2), True), "bgra8": (np.concatenate([bgr, opaque], 2), True),
        "mono8": (gray, False), "8UC1": (gray, False), "mono16": (gray.astype("<u2") * 256, False),
        "rgb16": (PICTURE.astype("<u2") * 256, True), "bgr16": (bgr.astype("<u2") * 256, True),
    }  # fmt: skip
    return table[encoding]


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("encoding", COLOR_ENCODINGS)
def test_every_encoding_gives_the_same_picture(encoding: str, padding: int) -> None:
    rows, color = encoded(encoding)
    rgb = image_to_rgb(message(np.ascontiguousarray(rows), encoding, padding=padding))
    assert rgb.shape == (32, 48, 3)
    assert rgb.dtype == np.uint8
    expected = PICTURE if color else cv2.cvtColor(PICTURE, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, 2)
    for row, column in INSIDE:
        np.testing.assert_allclose(rgb[row, column].astype(int), expected[row, column], atol=4)


@pytest.mark.parametrize("encoding", ["mono16", "rgb16", "bayer_rggb16"])
def test_big_endian(encoding: str) -> None:
    rows, _ = encoded(encoding)
    rows = np.ascontiguousarray(rows)
    little = image_to_rgb(message(rows, encoding))
    np.testing.assert_array_equal(image_to_rgb(message(rows.byteswap(), encoding, big=1)), little)


def test_the_last_row_may_lack_its_padding() -> None:
    msg = message(PICTURE, "rgb8", padding=10)
    msg.data = msg.data[:-10]
    np.testing.assert_array_equal(image_to_rgb(msg), PICTURE)


def broken(**changes: object) -> Image:
    msg = message(PICTURE, "rgb8")
    for name, value in changes.items():
        setattr(msg, name, value)
    return msg


@pytest.mark.parametrize(
    ("msg", "words"),
    [
        (Image(), "empty image"),
        (broken(width=0), "empty image"),
        (broken(data=array.array("B")), "empty image"),
        (broken(step=20), "step 20"),
        (broken(height=33), "needs 4752 bytes"),
        (broken(data=array.array("B", bytes(100))), "found 100"),
        (broken(width=2_000_000_000, step=0), "no camera's size"),
        (broken(encoding="rgb9"), "image encoding 'rgb9' is not supported"),
        (broken(encoding=""), "image encoding '' is not supported"),
        (broken(encoding="16UC1"), "'16UC1' is that of a depth image: .* depth_camera/image"),
        (broken(encoding="32FC1"), "'32FC1' is that of a depth image"),
        (broken(encoding="8UC4"), "'8UC4' does not say which channel is which colour: publish it as bgra8 or rgba8"),
        (broken(encoding="8UC2"), "publish it as yuv422_yuy2 or yuv422"),
        (broken(encoding="32FC3"), "publish it as bgr8 or rgb8"),
        (broken(encoding="nv12", width=47), "even"),
        (broken(encoding="yuv422", width=47), "even"),
        (broken(encoding="nv12", height=31), "even"),
        (CompressedImage(format="jpeg"), "0 bytes"),
        (CompressedImage(format="jpeg", data=array.array("B", b"no picture")), "cannot be decoded"),
    ],
)
def test_malformed_images_are_refused_in_one_line(msg: Image | CompressedImage, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        to_rgb(msg)
    assert "\n" not in str(caught.value)


def compressed(image: np.ndarray, form: str, suffix: str = ".jpg", options: tuple[int, ...] = ()) -> CompressedImage:
    """A message of an image in OpenCV's order."""
    ok, data = cv2.imencode(suffix, image, options)
    assert ok
    return CompressedImage(format=form, data=array.array("B", data.tobytes()))


BGR = np.ascontiguousarray(PICTURE[..., ::-1])
GRAY = cv2.cvtColor(PICTURE, cv2.COLOR_RGB2GRAY)
GRAY_RGB = GRAY[..., None].repeat(3, 2)
ALPHA = np.dstack([BGR, np.full(GRAY.shape, 70, np.uint8)])
MOSAIC = mosaic("grbg")


@pytest.mark.parametrize(
    ("form", "image", "suffix", "expected"),
    [
        ("jpeg", BGR, ".jpg", PICTURE),
        ("png", BGR, ".png", PICTURE),
        ("jpg", BGR, ".jpg", PICTURE),
        ("rgb8; jpeg compressed bgr8", BGR, ".jpg", PICTURE),
        ("bgr8; jpeg compressed bgr8", BGR, ".jpg", PICTURE),
        ("bgra8; png compressed bgr8", BGR, ".png", PICTURE),
        ("rgb8; png compressed bgr8", BGR, ".png", PICTURE),
        ("rgb8; jpeg compressed rgb8", PICTURE, ".jpg", PICTURE),  # a file in the other order
        ("bgr8; jpeg compressed rgb8", PICTURE, ".jpg", PICTURE),
        ("mono8; jpeg compressed ", GRAY, ".jpg", GRAY_RGB),
        ("mono8; png compressed ", GRAY, ".png", GRAY_RGB),
        ("mono16; png compressed ", GRAY.astype(np.uint16) * 256, ".png", GRAY_RGB),
        ("rgb16; png compressed bgr16", BGR.astype(np.uint16) * 256, ".png", PICTURE),
        ("rgba8; png compressed bgr8", ALPHA, ".png", PICTURE),
        ("bayer_grbg8; png compressed ", MOSAIC, ".png", PICTURE),
        ("bayer_grbg16; png compressed ", MOSAIC.astype(np.uint16) * 256, ".png", PICTURE),
        ("", BGR, ".jpg", PICTURE),
        ("", BGR, ".png", PICTURE),
        ("some camera", BGR, ".jpg", PICTURE),
        ("png", BGR, ".jpg", PICTURE),  # it says one thing, and is another
        ("rgb8; jpeg compressed bgr8", BGR, ".png", PICTURE),
        ("webp", BGR, ".webp", PICTURE),
    ],
)
def test_compressed_images(form: str, image: np.ndarray, suffix: str, expected: np.ndarray) -> None:
    rgb = compressed_to_rgb(compressed(image, form, suffix))
    assert (rgb.shape, rgb.dtype) == (PICTURE.shape, np.uint8)
    assert rgb.flags.c_contiguous
    for row, column in INSIDE:
        np.testing.assert_allclose(rgb[row, column].astype(int), expected[row, column], atol=9)


@pytest.mark.parametrize("form", ["16UC1; compressedDepth png", "32FC1; compressedDepth", "16UC1; png compressed "])
def test_a_compressed_depth_image_is_named(form: str) -> None:
    with pytest.raises(UserError, match="a depth image: expected a colour image: remap"):
        to_rgb(compressed(np.full((32, 48), 1500, np.uint16), form, ".png"))


def exif(orientation: int) -> bytes:
    """An APP1 segment that says how a viewer has to turn the picture."""
    tiff = b"MM\x00*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    body = b"Exif\x00\x00" + tiff
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


@pytest.mark.parametrize("orientation", [1, 2, 3, 6, 8])
def test_pixels_stay_with_their_camera_info(orientation: int) -> None:
    """The orientation that a JPEG carries is for viewers: camera_info is of the pixels as the camera sent them."""
    plain = compressed(BGR, "jpeg")
    data = plain.data.tobytes()
    turned = CompressedImage(format="jpeg", data=array.array("B", data[:2] + exif(orientation) + data[2:]))
    upright = cv2.imdecode(np.frombuffer(turned.data, np.uint8), cv2.IMREAD_COLOR)
    assert orientation < 6 or upright.shape[:2] == (48, 32)  # OpenCV reads the segment
    np.testing.assert_array_equal(compressed_to_rgb(turned), compressed_to_rgb(plain))


def test_what_a_camera_leaves_out_and_what_is_lost() -> None:
    """Without the end marker, padded or not, a JPEG is whole; without the end of its data it is malformed."""
    noisy = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    whole = compressed(noisy, "jpeg")
    data = whole.data.tobytes()
    expected = compressed_to_rgb(whole)
    for form in (data[:-2], data[:-1], data[:-2] + bytes(100), data + bytes(100)):
        rgb = compressed_to_rgb(CompressedImage(format="jpeg", data=array.array("B", form)))
        np.testing.assert_array_equal(rgb, expected)
    for kept in (3, 100, len(data) // 2, len(data) * 9 // 10):
        for end in (b"", b"\xff\xd9", bytes(64)):
            with pytest.raises(UserError, match=r"malformed compressed image: format 'jpeg', .* cannot be decoded"):
                compressed_to_rgb(CompressedImage(format="jpeg", data=array.array("B", data[:kept] + end)))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_compressed_image_of_no_cameras_size_is_not_decoded(suffix: str) -> None:
    data = bytearray(compressed(BGR, "", suffix).data.tobytes())
    at = data.index(b"\xff\xc0") + 5 if suffix == ".jpg" else 18  # height, 16 bits; the lower half of 32 bits of width
    data[at : at + 4] = b"\xff\xff\xff\xff"
    with pytest.raises(UserError, match=r"malformed compressed image: .* is no camera's size"):
        compressed_to_rgb(CompressedImage(format="", data=array.array("B", bytes(data))))


def test_depth_is_metres_with_nan_for_invalid() -> None:
    metres = np.array([[1.5, np.nan, 0.0], [np.inf, -1.0, 2.0]], np.float32)
    depth = depth_to_metres(message(metres, "32FC1", 3, 2))
    np.testing.assert_array_equal(depth, np.array([[1.5, np.nan, np.nan], [np.nan, np.nan, 2.0]], np.float32))
    millimetres = np.array([[1500, 0], [250, 65535]], "<u2")
    depth = depth_to_metres(message(millimetres, "16UC1", 2, 2))
    np.testing.assert_allclose(depth, [[1.5, np.nan], [0.25, 65.535]], rtol=1e-6)
    with pytest.raises(UserError, match="depth encoding 'rgb8'"):
        depth_to_metres(broken())


@pytest.mark.parametrize(
    ("encoding", "dtype", "channels"),
    [("rgb8", np.uint8, 3), ("mono8", np.uint8, 1), ("32FC1", np.float32, 1), ("32FC3", np.float32, 3)],
)
def test_arrays_become_messages_byte_for_byte(encoding: str, dtype: type, channels: int) -> None:
    pixels = (np.random.default_rng(0).random((5, 7, channels)) * 200).astype(dtype).squeeze()
    header = Header(frame_id="camera_optical_frame")
    header.stamp.sec = 7
    for view in (pixels, pixels[::-1]):
        msg = to_image(view, encoding, header)
        assert (msg.width, msg.height, msg.encoding, msg.header) == (7, 5, encoding, header)
        assert msg.step == 7 * channels * np.dtype(dtype).itemsize
        np.testing.assert_array_equal(np.frombuffer(msg.data, dtype).reshape(pixels.shape), view)


def test_a_wrong_dtype_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="32FC1 needs float32"):
        to_image(np.zeros((2, 2)), "32FC1", Header())


def test_large_arrays_cross_as_one_buffer() -> None:
    """Element by element a 1080p image takes seconds: the message's data is an array, which rclpy copies at once."""
    pixels = np.zeros((1080, 1920, 3), np.float32)
    data = to_image(pixels, "32FC3", Header()).data
    assert isinstance(data, array.array)
    assert len(data) == pixels.nbytes
