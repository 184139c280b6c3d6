"""Writes tiny data sets in exactly the published layouts."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

RNG = np.random.default_rng(0)


def rgb(width: int = 24, height: int = 16) -> np.ndarray:
    return RNG.integers(0, 255, (height, width, 3), np.uint8)


def matte(width: int = 24, height: int = 16) -> np.ndarray:
    image = np.zeros((height, width), np.uint8)
    image[4:12, 6:18] = 255
    image[4:12, 5] = 100
    return image


def save(path: Path, image: np.ndarray, fmt: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, format=fmt, quality=95) if fmt else Image.fromarray(image).save(path)


def cube(size: float, centre: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * size / 2 + centre
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [f for a, b, c, d in quads for f in ((a, b, c), (a, c, d))]
    return corners, np.array(faces)


def videomatte(root: Path, lengths: tuple[int, ...] = (3, 2)) -> None:
    for clip, frames in enumerate(lengths):
        for kind in ("com", "fgr", "pha", "bgr"):
            for frame in range(frames):
                image = matte() if kind == "pha" else rgb()
                save(root / "videomatte_512x288/videomatte_static" / f"{clip:04d}" / kind / f"{frame:04d}.png", image)


def photomatte85(root: Path, count: int = 85) -> None:
    for i in range(count):
        save(root / f"{i:04d}.png", np.dstack([rgb(8, 6), matte(8, 6)]))


def ppm100(root: Path) -> None:
    for name in ("0_a", "1_b"):
        save(root / "val" / "fg" / f"{name}.jpg", rgb())
        save(root / "val" / "matte" / f"{name}.jpg", matte())


def emdb(root: Path, frames: int = 6, **changes: object) -> Path:
    sequence = root / "P0" / "09_outdoor_walk"
    for i in range(frames):
        save(sequence / "images" / f"{i:05d}.jpg", rgb(18, 24))
    extrinsics = np.tile(np.eye(4), (frames, 1, 1))
    extrinsics[:, :3, 3] = [0.1, 0.2, 3.0]
    good = np.ones(frames, bool)
    good[0] = False
    data = {
        "gender": "male",
        "name": "P0_09_outdoor_walk",
        "emdb1": True,
        "emdb2": False,
        "n_frames": frames,
        "good_frames_mask": good,
        "camera": {
            "intrinsics": np.array([[20.0, 0, 9], [0, 20, 12], [0, 0, 1]]),
            "extrinsics": extrinsics,
            "width": 18,
            "height": 24,
        },
        "smpl": {
            "poses_root": RNG.normal(size=(frames, 3)),
            "poses_body": RNG.normal(size=(frames, 69)),
            "trans": RNG.normal(size=(frames, 3)),
            "betas": RNG.normal(size=10),
        },
        "kp2d": RNG.normal(size=(frames, 24, 2)),
        "bboxes": {"bboxes": RNG.normal(size=(frames, 4)), "invalid_idxs": np.zeros(0, int)},
        **changes,
    }
    path = sequence / "P0_09_outdoor_walk_data.pkl"
    path.write_bytes(pickle.dumps(data, protocol=4))
    return path


def rich(root: Path, frames: int = 3) -> None:
    name = "Gym_010_lunge1"
    for i in range(1, frames + 1):
        body = root / "bodies/test" / name / f"{i:05d}"
        body.mkdir(parents=True)
        table = {"betas": RNG.normal(size=(1, 10)).astype(np.float32), "transl": np.zeros((1, 3), np.float32)}
        table |= {"global_orient": np.zeros((1, 3), np.float32), "body_pose": np.zeros((1, 63), np.float32)}
        table |= {f"{s}_hand_pose": np.zeros((1, 12), np.float32) for s in ("left", "right")}
        (body / "010.pkl").write_bytes(pickle.dumps(table, protocol=2))
        save(root / "images/test" / name / "cam_00" / f"{i:05d}_00.bmp", rgb())
    (root / "resource").mkdir()
    (root / "resource/gender.json").write_text(json.dumps({"9": "female", "10": "male"}))
    calibration = root / "scan_calibration/Gym/calibration"
    calibration.mkdir(parents=True)
    storage = cv2.FileStorage(str(calibration / "000.xml"), cv2.FILE_STORAGE_WRITE)
    pose = np.hstack([np.eye(3), [[0.0], [1.0], [4.0]]])
    for key, value in (
        ("CameraMatrix", pose),
        ("Intrinsics", np.array([[30.0, 0, 12], [0, 30, 8], [0, 0, 1]])),
        ("Distortion", np.zeros((8, 1))),
    ):
        storage.write(key, value)
    storage.release()


def h36m(root: Path, frames: int = 11) -> np.ndarray:
    """Returns the raw pose (F, 32, 3) that was written."""
    import cdflib.cdfwrite

    from thfm_ros.video import VideoWriter

    pose = RNG.normal(0, 300, (frames, 32, 3)) + np.array([0, 0, 4000])
    for subject in ("S9", "S11"):
        for camera in ("54138969", "60457274"):
            poses = root / subject / "MyPoseFeatures" / "D3_Positions_mono"
            videos = root / subject / "Videos"
            poses.mkdir(parents=True, exist_ok=True)
            videos.mkdir(parents=True, exist_ok=True)
            spec = {"Variable": "Pose", "Data_Type": 45, "Num_Elements": 1, "Rec_Vary": True, "Dim_Sizes": [frames, 96]}
            writer = cdflib.cdfwrite.CDF(poses / f"Directions 1.{camera}.cdf", delete=True)
            writer.write_var(spec | {"Dim_Vary": [True, True]}, var_data=pose.reshape(1, frames, 96))
            writer.close()
            with VideoWriter(videos / f"Directions 1.{camera}.mp4", 50) as video:
                for i in range(frames):
                    video.write(np.full((16, 24, 3), 20 * i, np.uint8))
    return pose


def hi4d(root: Path, misspelt: bool = True, pairs: tuple[int, ...] = (28, 32, 37)) -> None:
    """A cube 2 m in front of camera 4; frame 1's mesh is a pickle, frame 2's an .obj."""
    vertices, faces = cube(0.5, (0.0, 0.0, 2.0))
    for pair in pairs:
        action = root / f"pair{pair}" / f"dance{pair}"
        (action / "cameras").mkdir(parents=True)
        np.savez(action / "meta.npz", start=1, end=2, num_persons=2, genders=["male"] * 2, betas=np.zeros((2, 10)))
        ids = np.array([4, 16, 28, 40, 52, 64, 76, 88])
        matrices = np.tile(np.array([[30.0, 0, 11.5], [0, 30, 7.5], [0, 0, 1]]), (8, 1, 1))
        poses = np.tile(np.eye(4)[:3], (8, 1, 1))
        key = "intirnsics" if misspelt else "intrinsics"
        cameras = {"ids": ids, key: matrices, "extrinsics": poses, "dist_coeffs": np.zeros((8, 5))}
        np.savez(action / "cameras" / "rgb_cameras.npz", **cameras)
        for n in (1, 2):
            save(action / "images/4" / f"{n:06d}.jpg", rgb())
            person = np.zeros((16, 24), np.uint8)
            person[:, :12] = 255
            save(action / "seg/img_seg_mask/4/all" / f"{n:06d}.png", person)
        (action / "frames_vis").mkdir()
        (action / "frames").mkdir()
        mesh = {"vertices": vertices.astype(np.float32), "faces": faces, "normals": vertices, "uvs": np.zeros((8, 2))}
        (action / "frames_vis/mesh-f00001.pkl").write_bytes(pickle.dumps(mesh))
        lines = [f"v {x} {y} {z}" for x, y, z in vertices] + [f"f {a + 1}/1 {b + 1}/1 {c + 1}/1" for a, b, c in faces]
        (action / "frames/mesh-f00002.obj").write_text("\n".join(lines))


def hi4d_prepared(root: Path) -> None:
    for i in range(2):
        save(root / "pair28_dance" / "rgb" / f"{i:06d}.png", rgb())
        save(root / "pair28_dance" / "mask" / f"{i:06d}.png", matte())
        folder = root / "pair28_dance" / "normal"
        folder.mkdir(exist_ok=True)
        np.save(folder / f"{i:06d}.npy", np.broadcast_to(np.array([0, 0, -1], np.float32), (16, 24, 3)))


def _zip(path: Path, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def _encoded(image: np.ndarray, fmt: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format=fmt)
    return buffer.getvalue()


def goliath(root: Path, kind: str = "Head", cameras: tuple[str, ...] = ("400002", "400007"), frames: int = 3) -> Path:
    """A cube of 500 mm, 2 m in front of every camera; calibrated at twice the images' size."""
    import trimesh

    capture = root / f"m--20240101--1200--ABC123--pilot--ProjectGoliath--{kind}"
    capture.mkdir(parents=True)
    matrix = np.array([[60.0, 0, 23.5], [0, 60, 15.5], [0, 0, 1]])  # of 48 x 32; the images are 24 x 16
    pose = np.eye(4)
    pose[:3, 3] = [0, 0, 1000.0]
    entries = [{"cameraId": c, "K": matrix.T.tolist(), "T": pose.T.tolist()} for c in cameras]
    (capture / "camera_calibration.json").write_text(json.dumps({"KRT": entries}))
    ply = trimesh.Trimesh(*cube(500.0, (0.0, 0.0, 1000.0)), process=False).export(file_type="ply")
    for c in cameras:
        names = [f"cam{c}/{i:06d}" for i in range(frames)]
        _zip(capture / "image" / f"cam{c}.zip", {f"{n}.avif": _encoded(rgb(), "AVIF") for n in names})
        parts = {f"{n}.png": _encoded((matte() > 0).astype(np.uint8) * 3, "PNG") for n in names}
        _zip(capture / "segmentation_parts" / f"cam{c}.zip", parts)
    _zip(capture / "scan_mesh" / "scan_mesh.zip", {f"{i:06d}.ply": ply for i in range(1, frames)})
    (capture / "frame_splits_list.csv").write_text("frame,split\n")
    return capture


def body_model(joints: int, vertices: int = 80) -> dict[str, np.ndarray]:
    """A random body: a chain of joints, each the mean of some vertices."""
    rng = np.random.default_rng(2)
    regressor = rng.dirichlet(np.ones(vertices), joints)
    parents = np.arange(-1, joints - 1)
    if joints > 28:
        parents[[28, 43]] = 20, 21  # SMPL-X: middle fingers hang on the wrists
    return {
        "v_template": rng.normal(size=(vertices, 3)),
        "shapedirs": rng.normal(size=(vertices, 3, 10)),
        "J_regressor": regressor,
        "kintree_table": np.stack([parents % 2**32, np.arange(joints)]),
    }
