"""The metrics against values that public reference code computed (a few cases of every family travel along)."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from thfm_ros.errors import UserError
from thfm_ros.evaluate import oracle

CASES = Path(__file__).parent / "oracle"


@pytest.mark.parametrize("path", oracle.case_files(CASES), ids=lambda p: p.stem)
def test_case_lies_within_tolerance(path: Path) -> None:
    outcome = oracle.run_case(path)
    assert outcome.ok, outcome.message


def test_every_family_has_a_case() -> None:
    assert {p.stem.rsplit("_", 1)[0] for p in oracle.case_files(CASES)} == set(oracle.FAMILIES)


def test_command_reports_families_and_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert oracle.main([str(CASES)]) == 0
    out = capsys.readouterr().out
    assert "matting_conn" in out
    assert "22 families, 22 cases, 0 outside tolerance" in out


def test_wrong_value_fails_and_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = CASES / "matting_mad_03.npz"
    with np.load(source) as stored:
        case = dict(stored)
    case["expected"] = case["expected"] * 1.001
    (tmp_path / "cases").mkdir()
    np.savez(tmp_path / "cases" / source.name, **case)
    assert oracle.main([str(tmp_path)]) == 1
    assert "FAIL matting_mad_03.npz" in capsys.readouterr().out


def test_damaged_and_unknown_files_fail(tmp_path: Path) -> None:
    (tmp_path / "matting_mad_00.npz").write_bytes(b"PK\x03\x04 not an archive")
    shutil.copy(CASES / "matting_mad_03.npz", tmp_path / "unheard_of_00.npz")
    outcomes = {o.path.name: o for o in oracle.run(tmp_path)}
    assert not outcomes["matting_mad_00.npz"].ok
    assert "unknown family" in outcomes["unheard_of_00.npz"].message


def test_folder_without_cases_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no oracle cases"):
        oracle.case_files(tmp_path)
    assert oracle.main([str(tmp_path)]) == 2


def test_nan_equals_nan_but_nothing_else() -> None:
    assert oracle.Check("x", [np.nan, 1.0], [np.nan, 1.0], atol=1e-9).deviation() == (0.0, 0.0)
    assert oracle.Check("x", [np.nan], [1.0], atol=1e9).deviation()[1] == np.inf
    assert oracle.Check("x", [1.0, 2.0], [1.0], atol=1e9).deviation()[1] == np.inf
