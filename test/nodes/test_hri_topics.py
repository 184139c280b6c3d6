"""REP-155 topics of the running node, with the real hri_msgs; skipped where that package is not installed."""

from __future__ import annotations

import pytest
from node_harness import System, stamp_of, wait_for

hri_msgs = pytest.importorskip("hri_msgs.msg")


def test_bodies_are_listed_and_each_has_its_topics(ros: System) -> None:
    ros.perception()
    tracked = ros.listen(hri_msgs.IdsList, "/humans/bodies/tracked")
    stamps = ros.play(range(2), tracked)
    identity = tracked[-1].ids[0]
    rois = ros.listen(hri_msgs.NormalizedRegionOfInterest2D, f"/humans/bodies/{identity}/roi")
    skeletons = ros.listen(hri_msgs.Skeleton2D, f"/humans/bodies/{identity}/skeleton2d")
    stamps += ros.play(range(2, 4), skeletons)
    wait_for(lambda: len(rois) == 2 and len(tracked) == 4)
    assert [stamp_of(m) for m in tracked] == stamps
    assert [stamp_of(m) for m in skeletons] == [stamp_of(m) for m in rois] == stamps[2:]
    assert all(message.ids == [identity] for message in tracked)
    assert len(skeletons[-1].skeleton) == 18
    assert 0 <= rois[-1].xmin < rois[-1].xmax <= 1
    assert 0 <= rois[-1].ymin < rois[-1].ymax <= 1
