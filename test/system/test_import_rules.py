"""The layers of the package: imports run downwards only, and a robot's process stays light."""

import ast
import importlib
import importlib.util
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "thfm_ros"
# A file imports its own area and areas of a lower number; the ground floor has none.
LAYERS = {
    "model": 1,
    "synth": 2,  # beside model, which it never imports; engines are verified on its held-out clips
    "engine": 3,
    "stream": 4,
    "train": 4,
    "evaluate": 5,  # also of streams: what jumps at the borders of windows
    "nodes": 6,
    "system": 6,
    "offline": 7,  # whole recordings, with the messages of nodes
    "cli": 8,
}
ROBOT = (
    "stream",
    "nodes",
    "engine/runtime.py",
    "engine/load.py",
    "engine/bundle.py",
    "engine/manifest.py",
    "engine/stage_table.py",
    "engine/results.py",
    "engine/checks.py",
    "engine/digests.py",
    "engine/golden.py",
    "engine/verdicts.py",
    "engine/refusals.py",
    "engine/device.py",
    "engine/shipped.py",
)
ROBOT_BACKENDS = ("openvino", "onnxruntime")
HEAVY = {"diffusers", "transformers", "torch"}
FILES = sorted(PACKAGE.rglob("*.py"))
OUTSIDE = sorted(f for name in ("benchmarks", "examples", "tools") for f in (PACKAGE.parent / name).rglob("*.py"))


def area_of(path: Path) -> str:
    """First folder under the package, or the file's own name: "" for the ground floor."""
    name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return name if name in LAYERS else ""


def imports(path: Path, lazy: bool) -> set[str]:
    """Dotted names that a file imports; lazy: also inside functions and under TYPE_CHECKING."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update({node.module} if node.module != "thfm_ros" else {f"thfm_ros.{a.name}" for a in node.names})
        elif not lazy and (
            isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        ):
            return
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


def own_areas(names: set[str]) -> set[str]:
    """Areas of this package among imported names; its messages are not an area."""
    parts = (name.split(".") for name in names)
    return {p[1] for p in parts if p[0] == "thfm_ros" and len(p) > 1 and p[1] in LAYERS}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_downwards(path):
    area = area_of(path)
    for other in own_areas(imports(path, lazy=True)):
        if other != area:
            assert LAYERS[other] < LAYERS.get(area, 0), f"{path.relative_to(PACKAGE)} imports {other}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_nodes_know_ros(path):
    ros = {n.split(".")[0] for n in imports(path, lazy=True)} & {"rclpy", "sensor_msgs", "visualization_msgs"}
    assert not ros or area_of(path) == "nodes", f"{path.relative_to(PACKAGE)} imports {ros}"


BAGS = (
    "offline",
    "nodes/__init__.py",
    "nodes/distribution.py",
    "nodes/images.py",
    "nodes/camera_info.py",
    "nodes/bag.py",
)


@pytest.mark.parametrize("part", BAGS)
def test_bags_are_read_without_ros(part):
    place = PACKAGE / part
    for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
        ros = {n.split(".")[0] for n in imports(path, lazy=False)} & {"rclpy", "sensor_msgs", "std_msgs"}
        assert not ros, f"{path.relative_to(PACKAGE)} imports {ros} when loaded"


# The wing of the small network has few doors: what builds networks, and what turns a checkpoint into stages.
NANO_DOORS = {
    "model/checkpoint.py",
    "model/codecs.py",
    "model/keypoints.py",
    "model/presets.py",
    "engine/modules.py",
    "train/networks.py",
    "train/trainer.py",
}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nano_has_few_doors(path):
    place = path.relative_to(PACKAGE).as_posix()
    wing = tuple(f"thfm_ros.{layer}.nano" for layer in ("model", "train"))
    inside = place.startswith(("model/nano/", "train/nano/"))
    uses = any(name.startswith(wing) for name in imports(path, lazy=True))
    assert inside or not uses or place in NANO_DOORS, f"{place} imports a part of nano: {sorted(NANO_DOORS)} may"


def robot_files() -> list[Path]:
    names = [PACKAGE / part for part in ROBOT]
    files = [f for n in names for f in (sorted(n.rglob("*.py")) if n.is_dir() else [n])]
    files += [PACKAGE / f"engine/backends/{b}_backend.py" for b in ROBOT_BACKENDS]
    return files


@pytest.mark.parametrize("path", robot_files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_robots_process_loads_no_training_library(path):
    heavy = {name.split(".")[0] for name in imports(path, lazy=False)} & HEAVY
    assert not heavy, f"{path.relative_to(PACKAGE)} imports {heavy} when loaded"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_the_first_video_loads_pyav(path):
    assert "av" not in imports(path, lazy=False)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def test_no_file_imports_itself_by_way_of_others():
    modules = {module_name(path): path for path in FILES}
    graph = {name: {m for m in imported(path) if m in modules and m != name} for name, path in modules.items()}
    while leaves := {name for name, needed in graph.items() if not needed}:
        graph = {name: needed - leaves for name, needed in graph.items() if name not in leaves}
    assert not graph, f"these import one another, or what does: {sorted(graph)}"


def imported(path: Path) -> set[str]:
    """Names that a file imports, anywhere in it: modules, and what may be modules of a package."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
    return found


# Longer than a screen or two. A Warp kernel is one function; the others may be split.
LONG = {
    "synth/resolve.py": "resolve",
    "synth/raster.py": "rasterise",
    "synth/assembly.py": "assemble",
    "synth/build_assets.py": "build_body",
    "synth/commands.py": "generate",
    "synth/furniture.py": "make_piece",
    "synth/hair.py": "add_hair",
    "synth/render.py": "render",
}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_function_outgrows_80_lines(path):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)]
    long = [f.name for f in functions if f.end_lineno - f.lineno >= 80]
    known = LONG.get(path.relative_to(PACKAGE).as_posix())
    assert long == ([known] if known else []), "split what is new here, or take what is shorter now from the list"


def test_the_package_itself_imports_nothing_of_ours():
    assert not own_areas(imports(PACKAGE / "__init__.py", lazy=True))


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_what_programs_outside_the_package_import_exists(path: Path) -> None:
    """Benchmarks, examples and tools run in no test: a module that has moved would be noticed by their users."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("thfm_ros."):
            continue
        module = importlib.import_module(node.module)
        for alias in node.names:
            found = hasattr(module, alias.name) or importlib.util.find_spec(f"{node.module}.{alias.name}")
            assert found, f"{node.module} has no {alias.name}"
