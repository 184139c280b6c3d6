"""Makes video files with what comes with pixels: rotation, pixel shape, times, colours, fields, damage."""

from fractions import Fraction

import av
import cv2
import numpy as np

F, ONE = 1 << 16, 1 << 30  # 1.0 in a display matrix, and in its last column

# Four quarters of known colours: a turn, a mirror and a stretch are all seen.
QUARTERS = np.zeros((64, 96, 3), np.uint8)
QUARTERS[:32, :48], QUARTERS[:32, 48:] = (200, 40, 30), (30, 180, 60)
QUARTERS[32:, :48], QUARTERS[32:, 48:] = (20, 50, 210), (220, 220, 220)


def write(path, images, *, times=None, fps=10, matrix=None, aspect=None, codec="libx264", options=None, form=None):
    """A file of RGB images; matrix: a, b, c, d of a display matrix; times in seconds, else even."""
    with av.open(f"file:{path}", "w", format=form) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height = images[0].shape[1], images[0].shape[0]
        stream.pix_fmt, stream.options = "yuvj420p" if codec == "mjpeg" else "yuv420p", options or {"crf": "8"}
        base = Fraction(1, 1000) if times is not None else Fraction(1, fps)
        stream.codec_context.time_base = base
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if matrix:
            a, b, c, d = (int(value * F) for value in matrix)
            stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, ONE])
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.time_base = base
            frame.pts = index if times is None else round(times[index] / base)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_packets(path, packets, stamps, fps=10, codec="mjpeg", size=(96, 64), form=None):
    """A file of encoded frames as they are; stamps: pts in 1 / fps."""
    with av.open(f"file:{path}", "w", format=form) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = *size, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for data, stamp in zip(packets, stamps, strict=True):
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.pts, packet.dts = stream, Fraction(1, fps), stamp, stamp
            container.mux(packet)


def planes(image, matrix, full=False, bits=8):
    """Y, U, V of an RGB image in 4:2:0; matrix: "601", "709" or "2020"."""
    kr, kb = {"601": (0.299, 0.114), "709": (0.2126, 0.0722), "2020": (0.2627, 0.0593)}[matrix]
    red, green, blue = (image[..., i] / 255.0 for i in range(3))
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    chroma = [(blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))]
    unit, top = 1 << (bits - 8), (1 << bits) - 1
    y = luma * top if full else unit * (16 + 219 * luma)
    uv = [128 * unit + c[::2, ::2] * (top if full else 224 * unit) for c in chroma]
    return [np.round(plane).astype(np.uint16 if bits > 8 else np.uint8) for plane in (y, *uv)]


def write_colours(path, image, matrix, full=False, bits=8, tagged=True, transfer=None):
    """A file of one frame whose colours are in the given matrix and range, and says so."""
    form = "yuv420p" if bits == 8 else "yuv420p10le"
    frame = av.VideoFrame(image.shape[1], image.shape[0], form)
    for plane, values in zip(frame.planes, planes(image, matrix, full, bits), strict=True):
        rows = np.zeros((plane.height, plane.line_size), np.uint8)
        data = values.view(np.uint8).reshape(len(values), -1)
        rows[:, : data.shape[1]] = data
        plane.update(rows.tobytes())
    with av.open(f"file:{path}", "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = image.shape[1], image.shape[0], form
        stream.options = {"crf": "4"}
        if transfer is not None:
            stream.codec_context.color_trc = transfer
        if tagged:
            number = {"601": 6, "709": 1, "2020": 9}[matrix]
            stream.codec_context.colorspace, stream.codec_context.color_range = number, 1 + full
            frame.colorspace, frame.color_range = number, 1 + full
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_sound(path, cover=None):
    """A file of sound alone, or with the picture of its album."""
    with av.open(f"file:{path}", "w") as container:
        stream = container.add_stream("aac" if path.suffix == ".m4a" else "pcm_s16le", rate=8000)
        picture = container.add_stream("mjpeg", rate=1) if cover is not None else None
        if picture is not None:
            picture.width, picture.height, picture.pix_fmt = cover.shape[1], cover.shape[0], "yuvj420p"
            picture.disposition = 0x400
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
        frame.rate, frame.pts = 8000, 0
        if picture is not None:
            packet = av.Packet(cv2.imencode(".jpg", cover)[1].tobytes())
            packet.stream, packet.time_base, packet.pts, packet.dts = picture, Fraction(1, 1), 0, 0
            container.mux(packet)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
