"""A JPEG is whole, or it is refused: with restarts, progressive, gray, of any size; and files that are none."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from thfm_ros.encoded_image import decode_image, image_format, image_size
from thfm_ros.errors import UserError
from thfm_ros.evaluate.readers.base import load_gray, load_rgb
from thfm_ros.video import VideoReader


def picture(width, height, gray=False):
    rng = np.random.default_rng(width)
    smooth = cv2.resize(rng.integers(0, 256, (4, 6, 3), dtype=np.uint8), (width, height))
    noisy = np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
    return noisy[..., 0] if gray else noisy


RESTARTS, PROGRESSIVE = cv2.IMWRITE_JPEG_RST_INTERVAL, cv2.IMWRITE_JPEG_PROGRESSIVE


@pytest.mark.parametrize(
    ("size", "gray", "options"),
    [
        ((160, 120), False, ()),
        ((161, 121), False, ()),
        ((97, 52), True, ()),
        ((160, 120), False, (RESTARTS, 1)),
        ((160, 120), False, (RESTARTS, 10)),
        ((160, 120), False, (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x211111)),
        ((160, 120), False, (PROGRESSIVE, 1)),
    ],
)
def test_only_whole_jpegs_are_decoded(size, gray, options):
    data = cv2.imencode(".jpg", picture(*size, gray), options)[1].tobytes()
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    for whole in (data, data[:-2], data[:-1], data + bytes(100), data[:-2] + bytes(100)):
        np.testing.assert_array_equal(decode_image(whole, cv2.IMREAD_UNCHANGED), expected)
    for share in (0.01, 0.2, 0.5, 0.8, 0.9):
        for end in (b"", b"\xff\xd9", b"\xff", bytes(64)):
            if PROGRESSIVE in options and end == b"\xff\xd9":
                continue  # the end marker says that no scan is missing
            with pytest.raises(ValueError, match="a jpeg image"):
                decode_image(data[: int(len(data) * share)] + end)


def test_a_loss_at_a_restart_is_a_loss():
    data = cv2.imencode(".jpg", picture(160, 120), (RESTARTS, 5))[1].tobytes()
    markers = [i for i in range(len(data) - 1) if data[i] == 0xFF and 0xD0 <= data[i + 1] <= 0xD7]
    assert len(markers) > 8
    for at in markers:
        with pytest.raises(ValueError, match="data end too early"):
            decode_image(data[:at] + b"\xff\xd9")


@pytest.mark.parametrize("restarts", [0, 1, 7])
def test_a_gray_wall_is_no_loss(restarts):
    wall = np.full((120, 160, 3), 128, np.uint8)
    data = cv2.imencode(".jpg", wall, (RESTARTS, restarts))[1].tobytes()
    np.testing.assert_array_equal(decode_image(data), wall)
    np.testing.assert_array_equal(decode_image(data[:-2]), wall)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp", ".tiff", ".jpg"])
def test_files_say_what_they_are(suffix):
    data = cv2.imencode(suffix, picture(48, 32))[1].tobytes()
    assert image_format(data) == {".jpg": "jpeg"}.get(suffix, suffix[1:])
    assert decode_image(data).shape == (32, 48, 3)
    with pytest.raises(ValueError, match=f"a {image_format(data)} image"):
        decode_image(data[: len(data) // 3])


@pytest.mark.parametrize("data", [b"", b"\xff", b"no picture", bytes(1000), b"\xff\xd8", b"\xff\xd8\xff", b"BM"])
def test_what_is_no_picture_is_refused(data):
    with pytest.raises(ValueError, match="image"):
        decode_image(data)


def enlarged(data, kind):
    """A picture whose header claims 60000x60000 pixels: more than OpenCV takes."""
    if kind == ".jpg":
        at = data.index(b"\xff\xc0") + 5
        return data[:at] + struct.pack(">HH", 60000, 60000) + data[at + 4 :]
    if kind == ".bmp":
        return data[:18] + struct.pack("<ii", 60000, 60000) + data[26:]
    header = b"IHDR" + struct.pack(">II", 60000, 60000) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


@pytest.mark.parametrize(("kind", "name"), [(".jpg", "jpeg"), (".png", "png"), (".bmp", "bmp")])
def test_a_header_that_claims_too_many_pixels_is_damage(kind, name, tmp_path):
    data = enlarged(cv2.imencode(kind, picture(64, 48))[1].tobytes(), kind)
    for flags in (cv2.IMREAD_COLOR, cv2.IMREAD_GRAYSCALE, cv2.IMREAD_UNCHANGED):
        with pytest.raises(ValueError, match=f"a {name} image that is damaged"):
            decode_image(data, flags)
    file = tmp_path / f"bad{kind}"
    file.write_bytes(data)
    with pytest.raises(UserError, match=r"cannot decode .*bad.* that is damaged"):
        load_rgb(file)
    with pytest.raises(UserError, match=r"cannot read the picture .*bad.* that is damaged: name another file"):
        VideoReader(file)


def turned(data, orientation):
    """A JPEG with an EXIF segment that says how a viewer has to turn it."""
    body = b"Exif\x00\x00MM\x00*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


def test_photographs_are_turned_as_their_exif_says(tmp_path):
    image = picture(64, 40)
    data = cv2.imencode(".jpg", image)[1].tobytes()
    plain = load_rgb(save(tmp_path, data))
    np.testing.assert_array_equal(load_rgb(save(tmp_path, turned(data, 6))), np.rot90(plain, -1))
    np.testing.assert_array_equal(load_gray(save(tmp_path, turned(data, 3))).shape, (40, 64))
    np.testing.assert_array_equal(decode_image(turned(data, 6), cv2.IMREAD_UNCHANGED), decode_image(data))


def save(folder, data):
    (folder / "a.jpg").write_bytes(data)
    return folder / "a.jpg"


def test_half_a_photograph_is_refused_with_its_name(tmp_path):
    data = cv2.imencode(".jpg", picture(64, 40))[1].tobytes()
    with pytest.raises(UserError, match=r"cannot decode .*a\.jpg.* data end too early"):
        load_rgb(save(tmp_path, turned(data, 6)[:-600] + b"\xff\xd9"))


@pytest.mark.parametrize("kind", [".jpg", ".png"])
@pytest.mark.parametrize("options", [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]])
@pytest.mark.parametrize("shape", [(48, 64, 3), (301, 17), (1080, 1920, 3)])
def test_the_size_stands_in_the_header(kind: str, options: list[int], shape: tuple[int, ...]) -> None:
    data = cv2.imencode(kind, np.zeros(shape, np.uint8), options if kind == ".jpg" else [])[1].tobytes()
    assert image_size(data) == image_size(memoryview(data)) == (shape[1], shape[0])
    commented = data[:2] + b"\xff\xfe\x00\x08\xff\xc0hi12"[:10] + data[2:] if kind == ".jpg" else data
    assert image_size(commented) == (shape[1], shape[0])  # a comment that looks like a frame
    for end in range(24):
        assert image_size(data[:end]) is None


def test_other_kinds_have_no_size_in_a_header_that_is_known() -> None:
    for data in (
        b"",
        b"\xff\xd8\xff",
        b"GIF89a",
        bytes(64),
        cv2.imencode(".bmp", np.zeros((4, 4), np.uint8))[1].tobytes(),
    ):
        assert image_size(data) is None
