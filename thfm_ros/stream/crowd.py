"""Everyone in view: detections become tracks, tracks windows, windows skeletons, and skeletons people.

Of each pass: who is found in its frames is identified (`Tracker`); each track's window, cut from the camera's
own images, goes through the network's keypoint pass; the joints are mapped back, smoothed and placed in the camera
frame. Without windows the one skeleton of the whole picture takes the place of both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from thfm_ros.skeleton import JointSet
from thfm_ros.stream.detect import Detected, Detection, overlap, share
from thfm_ros.stream.frame import Frame
from thfm_ros.stream.motion import Velocities
from thfm_ros.stream.people import Person, locate, root_covariance, score_of
from thfm_ros.stream.smooth import JointSmoother
from thfm_ros.stream.torso import BodySize
from thfm_ros.stream.tracker import NS, Place, Track, Tracker
from thfm_ros.stream.windows import FollowedClip
from thfm_ros.tasks import INSTANCES

SPARSE = ("keypoints_2d", "keypoints_3d")
FOLLOWED_S = 0.6  # for how long somebody whom no detection shows is still looked for in their window
THERE = 0.3  # the least overlap of a skeleton with the window's person, where no detection shows them
BEFORE = 0.7  # share of such a skeleton's box in somebody else's from which it is theirs
SAME = 0.1  # mean distance of two skeletons' joints, in heights of the person, below which they are one person's
NEARER = 1.1  # times as high has somebody else to be to take a known person's place among those looked at
LABELS = 65535  # values of the label image, 1 and up; ids beyond them begin again


def detector(manifest: Any) -> str:
    """The dense task that people are found by, who have a window each then; "" where the whole picture has one
    skeleton."""
    if not getattr(manifest, "windows", None) or not set(SPARSE) & set(manifest.tasks):
        return ""
    return next((t for t in (INSTANCES.name, "foreground") if t in manifest.tasks), "")


def shortcomings(manifest: Any) -> list[str]:
    """What people lack with such a network, a line each."""
    chosen = detector(manifest)
    if not set(SPARSE) & set(manifest.tasks) or chosen == INSTANCES.name:
        return []
    if chosen:
        return [
            f"people: the network has no task {INSTANCES.name}, so whoever touches somebody in the mask counts as one "
            "with them; a checkpoint with that task tells them apart"
        ]
    return [
        "people: the bundle has no windows around people, so a frame has one skeleton, of the most prominent person; "
        "export it again by a recipe with windows"
    ]


@dataclass(frozen=True)
class Skeleton:
    """xy (K, 2) continuous pixels of the camera's image, xyz (K, 3) metres from the pelvis, confidence (K,)."""

    xy: np.ndarray
    xyz: np.ndarray
    confidence: np.ndarray

    @property
    def box(self) -> np.ndarray:
        """(4,) around the confident joints."""
        sure = self.confidence > 0.5
        xy = self.xy[sure] if sure.sum() >= 2 else self.xy
        return np.concatenate([xy.min(0), xy.max(0)])

    def sound(self, min_score: float) -> bool:
        """Whether somebody is there, and every joint has a place."""
        placed = np.isfinite(self.xy).all() and np.isfinite(self.xyz).all()
        return bool(score_of(self.confidence) >= min_score and placed)


@dataclass
class InView:
    """Everyone in a frame. labels (h, w) uint16 of `people`, None where pixels are not known; others: how many more
    are there than may be reported."""

    people: list[Person] = field(default_factory=list)
    labels: np.ndarray | None = None
    others: int = 0


class _Memory:
    """What is remembered of one person."""

    def __init__(self, joint_set: JointSet) -> None:
        self.joints = JointSmoother()
        self.size = BodySize(joint_set)


class Crowd:
    """The people of one camera. `config` is read afresh by every call: max_people, absence_s, confirm_s, min_score,
    joint_noise_m of `StreamConfig`."""

    def __init__(self, joint_set: JointSet) -> None:
        self._joint_set = joint_set
        self._pelvis = joint_set.index("pelvis")
        self.tracker = Tracker()
        self._velocities = Velocities()
        self._memories: dict[Track, _Memory] = {}

    def reset(self) -> None:
        """Forgets everybody: whoever comes next is new."""
        self.tracker.reset()
        self._velocities.reset()
        self._memories.clear()

    @property
    def stamps(self) -> Collection[int]:
        """Frames whose depth images may still measure somebody (`measure`)."""
        return {stamp for memory in self._memories.values() for stamp in memory.size.stamps}

    def measure(self, stamp_ns: int, depth: np.ndarray) -> None:
        """The depth image (h, w) in metres of a frame whose people were placed."""
        for memory in self._memories.values():
            memory.size.measure(stamp_ns, depth)

    def see_one(
        self, frames: Sequence[Frame], first: int, skeletons: Sequence[Skeleton], size: tuple[int, int], config: Any
    ) -> dict[int, InView]:
        """The one skeleton of each frame as the only person; index of a frame, `first` or later -> who is in view."""
        self.tracker.absence_s, self.tracker.confirm_s = config.absence_s, 0.0  # no mask that could flicker
        found: dict[Track, dict[int, Skeleton]] = {}
        for i in range(first, len(frames)):
            sound = skeletons[i].sound(config.min_score)
            detections = [Detection(skeletons[i].box, 1.0)] if sound else []
            for track in self.tracker.step(frames[i].stamp_ns, detections).values():
                found.setdefault(track, {})[i] = skeletons[i]
        in_view = {i: InView() for i in range(first, len(frames))}
        self._report(frames, found, {}, size, config, in_view)
        return in_view

    def see_all(
        self,
        frames: Sequence[Frame],
        first: int,
        detect: Callable[[int, list[np.ndarray]], Detected],
        runtime: Any,
        tasks: Sequence[str],
        size: tuple[int, int],
        config: Any,
    ) -> dict[int, InView]:
        """Everyone detected in frames `first` and later, with the skeletons of their windows.

        detect: finds people by (index of a frame, boxes where they are expected). runtime: gives skeletons
        (`predict_windows`). size: width and height of the camera's image.
        """
        self.tracker.absence_s, self.tracker.confirm_s = config.absence_s, config.confirm_s
        who: dict[int, dict[Track, Detection]] = {}
        detected: dict[int, Detected] = {}
        for i in range(first, len(frames)):
            detected[i] = detect(i, self.tracker.expected(frames[i].stamp_ns))
            people = detected[i].people
            who[i] = {track: people[n] for n, track in self.tracker.step(frames[i].stamp_ns, people).items()}
        who = {i: {track: d for track, d in there.items() if track.known} for i, there in who.items()}
        nearest = self._nearest(frames[-1].stamp_ns, config.max_people)
        skeletons = self._skeletons(frames, nearest, runtime, tasks)
        found: dict[Track, dict[int, Skeleton]] = {}
        for i in range(first, len(frames)):
            for track in self._there(frames[i].stamp_ns, {t: s[i] for t, s in skeletons.items()}, who[i], config):
                found.setdefault(track, {})[i] = skeletons[track][i]
        in_view = {}
        for i in range(first, len(frames)):
            others = sum(track not in nearest for track in who[i])
            in_view[i] = InView([], np.zeros(detected[i].labels.shape, np.uint16), others)
        self._report(frames, found, who, size, config, in_view)
        for i, seen in in_view.items():
            number = np.zeros(256, np.uint16)
            labels = {d.label: _label(t) for t, d in who[i].items() if i in found.get(t, {})}
            number[list(labels)] = list(labels.values())
            seen.labels = number[detected[i].labels]
        return in_view

    def _nearest(self, stamp_ns: int, count: int) -> list[Track]:
        """The tracks whose windows are looked at: of those seen lately the nearest where a depth camera has measured
        all of them, else the highest in the image."""
        lately = [t for t in self.tracker.tracks if t.known and stamp_ns - t.seen_ns <= FOLLOWED_S * NS]
        near = {t: (t.box[3] - t.box[1]) * (NEARER if t.number else 1.0) for t in lately}
        if all(t.place is not None for t in lately):
            near = {t: height / t.size for t, height in near.items()}
        return sorted(lately, key=lambda t: -near[t])[:count]

    def _skeletons(
        self, frames: Sequence[Frame], tracks: Sequence[Track], runtime: Any, tasks: Sequence[str]
    ) -> dict[Track, list[Skeleton]]:
        """Of every track one in each frame."""
        if not tracks:
            return {}
        images = [f.image for f in frames]
        assert all(image is not None for image in images)
        clips = []
        for track in tracks:
            known = {f.stamp_ns: track.boxes.get(f.stamp_ns) for f in frames}
            if known[frames[-1].stamp_ns] is None:
                known[frames[-1].stamp_ns] = track.at(frames[-1].stamp_ns)
            boxes = [np.full(4, np.nan) if (box := known[f.stamp_ns]) is None else box for f in frames]
            clips.append(FollowedClip.along(np.stack(boxes), runtime.manifest.windows))
            oldest = frames[0].stamp_ns
            track.boxes = {stamp: box for stamp, box in track.boxes.items() if stamp >= oldest}
        predictions = runtime.predict_windows(np.stack([clip.cut(images) for clip in clips]), tasks)
        out = {}
        for track, clip, found in zip(tracks, clips, predictions, strict=True):
            xy = clip.to_image(found.xy)
            joints = zip(xy, np.asarray(found.xyz, float), np.asarray(found.visibility, float), strict=True)
            out[track] = [Skeleton(*frame) for frame in joints]
        return out

    def _there(
        self, stamp_ns: int, skeletons: Mapping[Track, Skeleton], detected: Mapping[Track, Detection], config: Any
    ) -> list[Track]:
        """Whose skeletons in one frame are somebody's, each once: of two who coincide the one who was detected, else
        the one known for longer."""
        kept: list[Track] = []
        for track in sorted(skeletons, key=lambda t: (t not in detected, t.number or np.inf)):
            skeleton = skeletons[track]
            if not skeleton.sound(config.min_score):
                continue
            height = max(float(np.ptp(skeleton.xy[:, 1])), 1.0)
            apart = [np.linalg.norm(skeleton.xy - skeletons[t].xy, axis=-1).mean() / height for t in kept]
            if min(apart, default=1.0) < SAME:
                continue
            if track not in detected:
                others = [d.box for t, d in detected.items() if t in kept]
                if overlap(skeleton.box, track.at(stamp_ns)) < THERE:
                    continue
                if any(share(skeleton.box, box) > BEFORE for box in others):
                    continue  # whoever is before them has that skeleton
                track.see(stamp_ns, skeleton.box, None)
            kept.append(track)
        return kept

    def _report(
        self,
        frames: Sequence[Frame],
        found: Mapping[Track, Mapping[int, Skeleton]],
        who: Mapping[int, Mapping[Track, Detection]],
        size: tuple[int, int],
        config: Any,
        in_view: Mapping[int, InView],
    ) -> None:
        """Smoothed and placed people into `in_view`, the nearest first where a depth camera has measured all of a
        frame, else the highest in the image."""
        known = set(self.tracker.tracks)
        self._memories = {t: m for t, m in self._memories.items() if t in known}
        for track in sorted(found, key=lambda t: (t.number or np.inf, -t.box[3] + t.box[1])):
            identity = self.tracker.name(track)
            memory = self._memories.setdefault(track, _Memory(self._joint_set))
            skeletons, seen = found[track], sorted(found[track])
            places = np.stack([np.concatenate((skeletons[i].xy, skeletons[i].xyz), -1) for i in seen])
            memory.joints.noise_m = config.joint_noise_m
            stamps = [frames[i].stamp_ns for i in seen]
            smooth = memory.joints.advance(stamps, places.reshape(len(seen), -1)).reshape(places.shape)
            people = []
            for i, place in zip(seen, smooth, strict=True):
                detection = who.get(i, {}).get(track)
                bounds = detection and tuple(float(v) for v in detection.box)
                label = _label(track) if detection and detection.label else 0
                joints = (place[:, :2], place[:, 2:], skeletons[i].confidence)
                people.append(self._person(identity, memory, frames[i], *joints, size, bounds or None, label))
            camera = frames[seen[-1]].intrinsics
            if camera is not None and people[-1].measured and people[-1].located:
                track.place = Place(people[-1].root, people[-1].velocity, np.array([camera.fx, camera.fy]))
                track.size = float(np.linalg.norm(people[-1].root) * (track.box[3] - track.box[1]))
            for i, person in zip(seen, people, strict=True):
                in_view[i].people.append(person)
        for seen_there in in_view.values():
            measured = all(p.measured and p.located for p in seen_there.people)
            seen_there.people.sort(key=lambda p: np.linalg.norm(p.root) if measured else p.box()[1] - p.box()[3])

    def _person(
        self,
        identity: str,
        memory: _Memory,
        frame: Frame,
        xy: np.ndarray,
        relative: np.ndarray,
        confidence: np.ndarray,
        size: tuple[int, int],
        bounds: tuple[float, ...] | None,
        label: int,
    ) -> Person:
        """Placed in the camera frame by the depth camera, else by the body's size."""
        xyz = locate(xy, relative, confidence, frame.intrinsics, frame.lens)
        factor = memory.size.factor(frame.stamp_ns, xy, xyz, confidence, size, frame.depth)
        if factor is not None:
            xyz, relative = factor * xyz, factor * relative
        measured = factor is not None
        height = float(np.ptp(xy[:, 1]))
        velocity = self._velocities.update(identity, frame.stamp_ns, xyz[self._pelvis], measured)
        covariance = root_covariance(xyz[self._pelvis], height, frame.intrinsics, measured)
        return Person(
            identity,
            self._joint_set,
            xy,
            xyz,
            relative,
            confidence,
            size,
            measured,
            velocity,
            bounds,
            label,
            covariance,
        )


def _label(track: Track) -> int:
    return (track.number - 1) % LABELS + 1
