"""What the repository weighs: a clone stays small, though it holds weights and the generator's assets."""

import ast
import builtins
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MIB = 1 << 20


def tracked() -> dict[str, int]:
    """Bytes of every tracked file."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {name: (ROOT / name).stat().st_size for name in listed.split("\0") if name and (ROOT / name).is_file()}


def test_tracked_files_are_at_most_40_mib() -> None:
    sizes = tracked()
    assert sum(sizes.values()) <= 40 * MIB, sorted(sizes, key=sizes.__getitem__)[-5:]


def test_no_two_test_files_have_one_name() -> None:
    """Pytest imports them by their names alone: a run that meets one name twice refuses the second."""
    names = [path.name for path in (ROOT / "test").rglob("*.py") if path.name != "conftest.py"]
    assert len(names) == len(set(names)), sorted(name for name in set(names) if names.count(name) > 1)


@pytest.mark.parametrize("page", ["docs/model.md", "docs/engine.md", "docs/synth.md"])
def test_examples_import_the_classes_that_they_use(page: str) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.S | re.M):
        nodes = list(ast.walk(ast.parse(block)))
        used = {node.id for node in nodes if isinstance(node, ast.Name) and node.id[0].isupper()}
        imported = {a.asname or a.name for node in nodes if isinstance(node, ast.ImportFrom) for a in node.names}
        assert used <= imported | set(dir(builtins)), used - imported
