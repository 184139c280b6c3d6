"""Motion blur of the colour: exposure around the frame's own time, so that colour and truth stay aligned."""

from __future__ import annotations

import warp as wp

wp.set_module_options({"enable_backward": False, "fast_math": True})

TAPS = wp.constant(4)  # on each side


@wp.kernel
def motion_blur(
    colour: wp.array2d(dtype=wp.vec3),  # (T, H * W) linear
    velocity: wp.array2d(dtype=wp.vec2),  # (T, H * W) pixels a frame
    shutter: float,  # open share of the frame's time
    width: int,
    height: int,
    out: wp.array2d(dtype=wp.vec3),
):
    """Gathers along the fastest motion nearby; a tap counts where it moves far enough to reach this pixel."""
    t, i = wp.tid()
    x = i % width
    y = i / width
    own = velocity[t, i] * shutter
    v = own
    for k in range(8):
        dx = (k % 3 - 1) * 4
        dy = (k / 3 - 1) * 4
        if k == 4:
            dx = 4
            dy = 4
        j = wp.clamp(y + dy, 0, height - 1) * width + wp.clamp(x + dx, 0, width - 1)
        other = velocity[t, j] * shutter
        if wp.length_sq(other) > wp.length_sq(v):
            v = other
    c = colour[t, i]
    if wp.length(v) < 0.7:
        out[t, i] = c
        return
    total = c
    for k in range(1, TAPS + 1):
        share = 0.5 * float(k) / float(TAPS)
        for side in range(2):
            s = share
            if side == 1:
                s = -share
            qx = wp.clamp(int(float(x) + 0.5 + v[0] * s), 0, width - 1)
            qy = wp.clamp(int(float(y) + 0.5 + v[1] * s), 0, height - 1)
            q = qy * width + qx
            reach = wp.max(wp.length(velocity[t, q]) * shutter, wp.length(own))
            if reach * 0.5 >= wp.length(v) * share - 0.5:
                total += colour[t, q]
            else:
                total += c
    out[t, i] = total / float(2 * TAPS + 1)
