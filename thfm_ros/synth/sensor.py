"""The camera's sensor, on the colour alone: lens blur, exposure, colour, noise, tone curve, compression."""

from __future__ import annotations

import numpy as np
import warp as wp

from thfm_ros.synth.blur import motion_blur
from thfm_ros.synth.config import SynthConfig
from thfm_ros.synth.render import Rendered

wp.set_module_options({"enable_backward": False, "fast_math": True})


TABLE = 4096  # entries of the tone curve over the square root of linear values in [0, 4]


def tone_table(curve: float, contrast: float) -> np.ndarray:
    """(TABLE,) display values in [0, 1]: between a plain gamma (curve 0) and a filmic curve (1)."""
    x = 4.0 * np.linspace(0, 1, TABLE) ** 2
    film = (x * (2.51 * x + 0.03)) / (x * (2.43 * x + 0.59) + 0.14)
    value = np.clip(x * (1 - curve) + film * curve, 0, 1) ** (1 / 2.2)
    return np.clip(0.5 + (value - 0.5) * contrast, 0, 1).astype(np.float32)


@wp.kernel
def develop(
    colour: wp.array2d(dtype=wp.vec3),  # (T, H * W) linear
    gain: wp.array2d(dtype=float),  # (T, H) exposure of every row
    balance: wp.array(dtype=wp.vec3),  # (T,)
    blur: float,  # weight of each direct neighbour
    vignette: float,
    table: wp.array(dtype=float),
    saturation: float,
    read_noise: float,
    shot_noise: float,
    seed: int,
    width: int,
    height: int,
    out: wp.array2d(dtype=wp.vec3ub),
):
    t, i = wp.tid()
    x = i % width
    y = i / width
    c = colour[t, i]
    if blur > 0.0:
        left = colour[t, y * width + wp.max(x - 1, 0)]
        right = colour[t, y * width + wp.min(x + 1, width - 1)]
        up = colour[t, wp.max(y - 1, 0) * width + x]
        down = colour[t, wp.min(y + 1, height - 1) * width + x]
        c = c * (1.0 - 4.0 * blur) + (left + right + up + down) * blur
    u = (float(x) + 0.5) / float(width) - 0.5
    v = (float(y) + 0.5) / float(height) - 0.5
    c = wp.cw_mul(c, balance[t]) * (gain[t, y] * (1.0 - vignette * (u * u + v * v)))
    state = wp.rand_init(seed, t * width * height + i)
    grey = 0.3 * c[0] + 0.59 * c[1] + 0.11 * c[2]
    q = wp.vec3ub()
    for k in range(3):
        value = wp.max(grey + (c[k] - grey) * saturation, 0.0)
        if shot_noise > 0.0:  # three uniforms make a bell of unit variance
            bell = 2.0 * (wp.randf(state) + wp.randf(state) + wp.randf(state)) - 3.0
            value = wp.max(value + bell * wp.sqrt(read_noise * read_noise + shot_noise * shot_noise * value), 0.0)
        entry = wp.min(wp.sqrt(value * 0.25), 0.9999) * float(table.shape[0] - 1)
        low = int(entry)
        f = entry - float(low)
        q[k] = wp.uint8((table[low] * (1.0 - f) + table[low + 1] * f) * 255.0 + 0.5)
    out[t, i] = q


def rolling_exposure(rng: np.random.Generator, times: np.ndarray, height: int, fps: float, on: float) -> np.ndarray:
    """(T, H) gain of every row. Rows are read one after the other, for up to a frame's time, and each is exposed by
    the light of its own moment: the auto-exposure's drift, and lamps on the mains, whose flicker makes bands that
    wander from frame to frame. Intensity only: geometry and ground truth stay of one moment."""
    row_times = times[:, None] + rng.uniform(0.2, 1.0) / fps * np.arange(height) / height
    drift = on * rng.choice([0.0, 0.25]) * 0.5 * np.sin(row_times * rng.uniform(0.5, 3) + rng.uniform(0, 6))
    lamps = on * rng.choice([0.0, rng.uniform(0.02, 0.12)], p=[0.75, 0.25])
    mains = 2 * np.pi * rng.choice([100.0, 120.0]) * (1 + rng.normal(0, 2e-3))
    return np.exp(drift) * (1 + lamps * np.sin(mains * row_times + rng.uniform(0, 6)))


def develop_frames(
    rng: np.random.Generator, rendered: Rendered, config: SynthConfig, times: np.ndarray, stills: bool, device: str
) -> tuple[wp.array, dict[str, float]]:
    """(T, H * W) of three bytes on the device, and what was done to it. Stills: photographs, not one video."""
    frames, height, width = len(times), config.height, config.width
    on = 1.0 if config.sensor else 0.0
    each = frames if stills else 1
    gain = rolling_exposure(rng, times, height, config.fps, on) * np.exp(on * rng.normal(0, 0.15, (each, 1)))
    warm = on * rng.normal(0, 0.06, each)
    balance = np.stack([1 + warm, 1 + on * rng.normal(0, 0.02, each), 1 - warm], 1)
    balance = np.ascontiguousarray(np.broadcast_to(balance, (frames, 3)))
    noise = on * rng.choice([0.0, rng.uniform(0.001, 0.006), rng.uniform(0.006, 0.02)], p=[0.35, 0.45, 0.2])
    settings = {
        "blur": float(on * rng.choice([0.0, rng.uniform(0.02, 0.15)])),
        "vignette": float(on * rng.uniform(0, 0.5)),
        "curve": float(0.7 + on * rng.uniform(-0.5, 0.3)),
        "contrast": float(1 + on * rng.normal(0, 0.06)),
        "saturation": float(1 + on * rng.normal(0, 0.12)),
        "noise": float(noise),
    }
    colour = rendered.colour
    if frames > 1 and not stills and rng.random() < 0.55 * on:
        settings["shutter"] = float(rng.uniform(0.15, 0.8))
        colour = wp.empty_like(rendered.colour)
        wp.launch(
            motion_blur,
            colour.shape,
            device=device,
            inputs=[rendered.colour, rendered.velocity, settings["shutter"], width, height],
            outputs=[colour],
        )
    out = wp.empty((frames, height * width), dtype=wp.vec3ub, device=device)
    wp.launch(
        develop,
        out.shape,
        device=device,
        inputs=[
            colour,
            wp.array(gain.astype(np.float32), dtype=float, device=device),
            wp.array(balance.astype(np.float32), dtype=wp.vec3, device=device),
            settings["blur"],
            settings["vignette"],
            wp.array(tone_table(settings["curve"], settings["contrast"]), dtype=float, device=device),
            settings["saturation"],
            noise * 0.3,
            noise,
            int(rng.integers(2**30)),
            width,
            height,
        ],
        outputs=[out],
    )
    return out, settings


def compress(
    rng: np.random.Generator, rgb: np.ndarray, config: SynthConfig, settings: dict[str, float]
) -> tuple[np.ndarray, dict[str, float]]:
    """JPEG or H.264 there and back, now and then; (T, H, W, 3) uint8."""
    if not config.sensor:
        return rgb, settings
    roll = rng.random()
    if roll < 0.25 and len(rgb) > 1 and rgb.shape[1] % 2 == 0 and rgb.shape[2] % 2 == 0:
        crf = int(rng.integers(16, 30))
        return _h264(rgb, crf, config.fps), settings | {"h264": crf}
    if roll < 0.5:
        quality = int(rng.integers(45, 96))
        return np.stack([_jpeg(f, quality) for f in rgb]), settings | {"jpeg": quality}
    return rgb, settings


def _h264(rgb: np.ndarray, crf: int, fps: float) -> np.ndarray:
    import io
    from fractions import Fraction

    import av

    memory = io.BytesIO()
    with av.open(memory, "w", format="mp4") as container:
        options = {"crf": str(crf), "preset": "ultrafast", "threads": "1"}
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000), options=options)
        stream.height, stream.width = rgb.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in rgb:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    memory.seek(0)
    with av.open(memory) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def _jpeg(frame: np.ndarray, quality: int) -> np.ndarray:
    import cv2  # a machine that only renders on its GPU need not have it

    ok, data = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1] if ok else frame
