"""What is read off a machine."""

import pytest

from thfm_ros.engine import device


@pytest.mark.parametrize(
    ("info", "fast"),
    [
        ({"flags": "fma avx512f avx512_bf16 avx512_fp16 amx_tile amx_bf16"}, True),
        ({"vendor_id": "GenuineIntel", "flags": "fma avx512f avx512_bf16 avx512_fp16"}, False),  # slower than float32
        ({"vendor_id": "AuthenticAMD", "flags": "fma avx512f avx512_bf16"}, True),  # Zen 4
        ({"vendor_id": "AuthenticAMD", "flags": "fma avx2"}, False),
        ({"flags": "fma avx2"}, False),
        ({"Features": "fp asimd i8mm bf16"}, True),
        ({"Features": "fp asimd"}, False),
        ({}, False),
    ],
)
def test_bf16_is_taken_where_it_pays(monkeypatch: pytest.MonkeyPatch, info: dict[str, str], fast: bool) -> None:
    monkeypatch.setattr(device, "_cpuinfo", lambda: info)
    assert device.fast_bf16() is fast


@pytest.mark.parametrize("variable", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
@pytest.mark.parametrize(
    ("limit", "fast"), [("AVX512_CORE", False), ("avx2", False), ("AVX512_CORE_AMX", True), ("ALL", True)]
)
def test_bf16_follows_what_the_libraries_may_use(
    variable: str, limit: str, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "_cpuinfo", lambda: {"flags": "avx512f amx_bf16"})
    monkeypatch.setenv(variable, limit)
    assert device.fast_bf16() is fast


@pytest.mark.parametrize(
    ("limit", "fast"), [("AVX512_CORE", False), ("AVX2", False), ("avx512_core_bf16", True), ("AVX512_CORE_FP16", True)]
)
def test_amds_bf16_follows_it_too(limit: str, fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_cpuinfo", lambda: {"vendor_id": "AuthenticAMD", "flags": "avx512f avx512_bf16"})
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert device.fast_bf16() is fast
