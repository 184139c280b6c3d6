"""What is read off a machine."""

import pytest

from thfm_ros.engine import device


@pytest.mark.parametrize(
    ("info", "fast"),
    [
        ({"flags": "fma avx512f avx512_bf16 avx512_fp16 amx_tile amx_bf16"}, True),
        ({"flags": "fma avx512f avx512_bf16 avx512_fp16"}, False),  # slower than float32
        ({"flags": "fma avx2"}, False),
        ({"Features": "fp asimd i8mm bf16"}, True),
        ({"Features": "fp asimd"}, False),
        ({}, False),
    ],
)
def test_bf16_is_taken_where_it_pays(monkeypatch: pytest.MonkeyPatch, info: dict[str, str], fast: bool) -> None:
    monkeypatch.setattr(device, "_cpuinfo", lambda: info)
    assert device.fast_bf16() is fast
