"""A recording for the Rerun viewer: pictures, depth as points, masks and skeletons in 3D with their camera."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path
from types import ModuleType, TracebackType

import cv2
import numpy as np

from thfm_ros import panels
from thfm_ros.errors import UserError
from thfm_ros.files import atomic, unwritable
from thfm_ros.geometry import Intrinsics, unproject
from thfm_ros.stream.drawing import color_of
from thfm_ros.stream.estimator import FrameResult
from thfm_ros.stream.people import Person

POINT_STEP = 2  # of the depth map's pixels in both directions, every which one is a point
JPEG_QUALITY = 85
SURE = 0.3  # joints and bones that are less sure are left out
PERSON = 1  # class of the mask
JOINT_RADIUS_M, BONE_RADIUS_M = 0.025, 0.0125
FLUSH_S = 60.0  # that the library, or the disk, may take for what was logged


def rerun_library() -> ModuleType:
    """The library rerun; UserError where it is not installed."""
    os.environ.setdefault("RUST_LOG", "off")  # what goes wrong is raised here, in one line
    try:
        import rerun
    except ImportError as error:
        raise UserError(f"the viewer needs rerun-sdk, found: {error}: pip install 'rerun-sdk>=0.41,<0.42'") from None
    return rerun


class RerunLog:
    """Writes an .rrd file that appears when its block ends, or, without a path, shows all in a viewer that it starts.

    Of a failed block the file has what was done by then: at `path`, or as NAME.partial.rrd beside an older one; `kept`
    says where.

    Args:
        dated: stamps count from 1970, else from the recording's start.
    """

    def __init__(self, path: Path | None, name: str, dated: bool) -> None:
        self.path, self.kept = path, None
        self._rr, self._dated = rerun_library(), dated
        if path is None and sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ):
            raise UserError("no display for the Rerun viewer: write a file (--rerun OUT.rrd) and open it elsewhere")
        self._stream = self._rr.RecordingStream("thfm", recording_id=None)
        self._stream.send_recording_name(name)
        self._stream.set_log_time_enabled(False)  # nothing but the recording's own time
        self._stream.set_log_tick_enabled(False)
        self._camera: Intrinsics | None = None
        self._depth = ""  # the entity with the last depth map
        self._frames = 0
        self._place = contextlib.ExitStack()

    def __enter__(self) -> RerunLog:
        if self.path is None:
            self._stream.spawn(default_blueprint=self._blueprint())
        else:
            try:
                self._temporary = self._place.enter_context(atomic(self.path))
                folder = Path(self._place.enter_context(tempfile.TemporaryDirectory()))
                self._copy = _Copy(folder / self.path.name, self._temporary)
                self._stream.save(self._copy.pipe, default_blueprint=self._blueprint())
                self._copy.start()
            except (OSError, RuntimeError) as error:
                self._place.close()
                raise self._unwritable(error) from None
        rr = self._rr
        self._log("world", rr.ViewCoordinates.RDF, static=True)
        classes = rr.AnnotationContext([(0, "background", (0, 0, 0, 0)), (PERSON, "person", (60, 220, 140, 255))])
        self._log("world/camera/image/mask", classes, static=True)
        return self

    def _blueprint(self) -> object:
        import rerun.blueprint as rrb

        maps = [rrb.Spatial2DView(origin=name, name=name) for name in ("depth", "normals", "dense_pose")]
        picture = rrb.Spatial2DView(origin="world/camera/image", name="input, mask, 2D keypoints")
        return rrb.Blueprint(
            rrb.Horizontal(
                rrb.Spatial3DView(origin="world", name="camera, depth, 3D keypoints"),
                rrb.Vertical(picture, rrb.Horizontal(*maps), row_shares=[2, 1]),
                column_shares=[3, 2],
            ),
            collapse_panels=True,
        )

    def _log(self, entity: str, *what: object, static: bool = False) -> None:
        self._stream.log(entity, *what, static=static)

    def write(self, result: FrameResult) -> None:
        """One frame, at its stamp."""
        rr, stream = self._rr, self._stream
        self._frames += 1
        if self._dated:
            stream.set_time("stamp", timestamp=np.datetime64(result.stamp_ns, "ns"))
        else:
            stream.set_time("video", duration=np.timedelta64(result.stamp_ns, "ns"))
        self._log_camera(result)
        self._log("world/camera/image", rr.Image(result.image).compress(jpeg_quality=JPEG_QUALITY))
        if result.foreground is not None:
            mask = np.where(result.foreground > 0.5, PERSON, 0).astype(np.uint8)
            self._log("world/camera/image/mask", rr.SegmentationImage(mask, opacity=0.5))
        if result.normals is not None:
            self._log("normals", rr.Image(panels.normals_color(result.normals)).compress(jpeg_quality=JPEG_QUALITY))
        if result.dense_pose is not None:
            picture = panels.dense_pose_color(result.dense_pose)
            self._log("dense_pose", rr.Image(picture).compress(jpeg_quality=JPEG_QUALITY))
        self._log_depth(result)
        self._log_people(result)

    def _log_camera(self, result: FrameResult) -> None:
        camera = result.intrinsics
        if camera is None or camera == self._camera:
            return
        self._camera = camera
        pinhole = self._rr.Pinhole(
            resolution=(camera.width, camera.height),
            focal_length=(camera.fx, camera.fy),
            principal_point=(camera.cx, camera.cy),
            camera_xyz=self._rr.ViewCoordinates.RDF,
            image_plane_distance=0.5,
        )
        self._log("world/camera/image", pinhole)

    def _log_depth(self, result: FrameResult) -> None:
        """The map as a picture, and where it is in metres as coloured points."""
        rr = self._rr
        before, self._depth = self._depth, ""
        if result.depth is not None:
            self._depth = "depth/metres"
            self._log(self._depth, rr.DepthImage(np.where(np.isfinite(result.depth), result.depth, 0.0), meter=1.0))
        elif result.disparity is not None:
            self._depth = "depth/relative"
            self._log(self._depth, rr.Image(panels.disparity_color(result.disparity)))
        if before not in ("", self._depth):
            self._log(before, rr.Clear(recursive=False))
        points, colors = np.zeros((0, 3)), np.zeros((0, 3), np.uint8)
        if result.depth is not None and result.intrinsics is not None:
            height, width = result.depth.shape
            points = unproject(result.depth, result.intrinsics.resized(width, height))[::POINT_STEP, ::POINT_STEP]
            image = result.image
            if image.shape[:2] != (height, width):
                image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
            known = np.isfinite(points).all(-1)
            points, colors = points[known], image[::POINT_STEP, ::POINT_STEP][known]
        self._log("world/points", rr.Points3D(points, colors=colors, radii=rr.Radius.ui_points(1.5)))

    def _log_people(self, result: FrameResult) -> None:
        """Skeletons in the picture and in space; empty where nobody is, so that nobody stays."""
        rr = self._rr
        flat = [(person, person.xy * (np.array(result.size) / np.array(person.image_size))) for person in result.people]
        placed = [(person, person.xyz) for person in result.people if person.located]
        for entity, kind, people, radius in (
            ("world/camera/image/bones", rr.LineStrips2D, flat, 1.0),
            ("world/bones", rr.LineStrips3D, placed, BONE_RADIUS_M),
        ):
            bones = [(bone, color_of(person.id)) for person, places in people for bone in _bones(person, places)]
            self._log(entity, kind([bone for bone, _ in bones], colors=[color for _, color in bones], radii=radius))
        joints = [
            (place, f"{person.id} {name}", color_of(person.id))
            for person, places in placed
            for place, name, confidence in zip(places, person.joint_set.joints, person.confidence, strict=True)
            if confidence > SURE
        ]
        places, labels, colors = zip(*joints, strict=True) if joints else ((), (), ())
        points = np.reshape(places, (-1, 3))
        self._log(
            "world/joints", rr.Points3D(points, labels=labels, colors=colors, radii=JOINT_RADIUS_M, show_labels=False)
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        discarded = error
        try:
            self._finish()
            if self.path is not None and self._frames:
                self.kept, discarded = self._keep(self.path, error)
        except UserError as failure:
            discarded = failure
            if error is None:
                raise
        finally:
            self._place.__exit__(None if discarded is None else type(discarded), discarded, None)

    def _keep(self, path: Path, error: BaseException | None) -> tuple[Path, BaseException | None]:
        """Where the file will be, and what `atomic` has to know: an error, where another one stays at `path`."""
        if error is None or not path.exists():
            return path, None
        partial = path.with_stem(f"{path.stem}.partial")
        self._temporary.replace(partial)
        return partial, error

    def _finish(self) -> None:
        """Completes the file, or says that it could not be written, or that the viewer is gone."""
        try:
            self._stream.flush(timeout_sec=FLUSH_S)
            self._stream.disconnect()
            if self.path is not None:
                self._copy.end()
        except (OSError, RuntimeError, ValueError) as failure:
            raise self._unwritable(failure) from None

    def _unwritable(self, error: Exception) -> UserError:
        if isinstance(error, OSError) and self.path is not None:
            return unwritable(self.path, error)
        place = f"{self.path}: {' '.join(str(error).split())}: make room, or choose another place"
        return UserError(f"cannot write {place}" if self.path else f"the Rerun viewer is gone: {error}: start it again")


class _Copy(threading.Thread):
    """Copies what the library writes to a pipe into a file, and keeps the first error.

    On a full disk the library's own writer ends, and whoever flushes waits for it for ever.
    """

    def __init__(self, pipe: Path, path: Path) -> None:
        super().__init__(daemon=True)
        self.pipe, self.path = pipe, path
        self.failure: OSError | None = None
        os.mkfifo(self.pipe)
        self._source = os.open(self.pipe, os.O_RDONLY | os.O_NONBLOCK)  # who opens the other end need not wait
        os.set_blocking(self._source, True)

    def run(self) -> None:
        with open(self._source, "rb", buffering=0) as source:
            try:
                with self.path.open("wb") as out:
                    shutil.copyfileobj(source, out)
            except OSError as error:
                self.failure = error
                while source.read(shutil.COPY_BUFSIZE):  # so that the library's writer does not wait
                    pass

    def end(self) -> None:
        """Wait for the last byte. Raises OSError where the file could not be written."""
        self.join(FLUSH_S)
        if self.failure is not None:
            raise self.failure
        if self.is_alive():
            raise OSError(errno.EIO, "the recording was not completed")


def _bones(person: Person, places: np.ndarray) -> list[np.ndarray]:
    """(2, D) ends of every bone both of whose joints are sure, of places (K, D)."""
    sure = person.confidence > SURE
    return [places[[a, b]] for a, b in person.joint_set.bones if sure[a] and sure[b]]
