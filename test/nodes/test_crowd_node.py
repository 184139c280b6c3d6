"""Several people through the real node over real DDS: ids on `people`, labels, markers, counts, parameters."""

from __future__ import annotations

import numpy as np
from crowd_fakes import Block, CrowdManifest, CrowdRuntime, picture
from node_harness import System, stamp_of, wait_for
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from visualization_msgs.msg import Marker, MarkerArray

from thfm_ros.msg import Person, PersonArray


def crossing(index: int) -> list[Block]:
    """Two people who cross in 4 s; the nearer one hides the other on the way."""
    return [Block(1, 60 + 8 * index, 150, 170), Block(2, 420 - 8 * index, 150, 110)]


def of(people: PersonArray, block: Block) -> Person:
    (found,) = [p for p in people.people if abs(np.median([j.x for j in p.joints]) - block.x) < block.height / 5]
    return found


def test_ids_stay_through_a_crossing(ros: System) -> None:
    ros.perception(CrowdRuntime(), stride=1, gap_s=60.0)
    people = ros.listen(PersonArray, "people")
    for index in range(46):
        ros.play([index], people, image=picture(crossing(index)))
    assert [stamp_of(m) for m in people] == [ros.stamp(i) for i in range(46)]
    assert not people[0].people  # nobody is somebody at once (`confirm_s`)
    first = [of(people[2], block).id for block in crossing(2)]
    assert [of(people[-1], block).id for block in crossing(45)] == first
    assert {p.id for m in people for p in m.people} == set(first)
    assert min(len(m.people) for m in people[2:]) == 1  # hidden for a while
    moving = of(people[-1], crossing(45)[0])
    assert moving.velocity.x > 0.3
    assert np.isfinite(moving.root_covariance).all()


def test_labels_boxes_markers_and_counts_are_everyone_s(ros: System) -> None:
    node = ros.perception(CrowdRuntime(), stride=1, gap_s=60.0)
    people, labels = ros.listen(PersonArray, "people"), ros.listen(Image, "instances/image")
    markers, overlays = ros.listen(MarkerArray, "skeleton/markers"), ros.listen(Image, "overlay/image")
    crowd = [Block(n + 1, 30 + 58 * n, 150, 70 + 12 * n) for n in range(8)]
    ros.play(range(4), people, image=picture(crowd))
    wait_for(lambda: len(labels) == len(markers) == len(overlays) == 4, what="everything about all frames")
    array, image = people[-1], labels[-1]
    assert (len(array.people), array.others) == (6, 2)
    assert image.header == array.header
    assert image.encoding == "mono16"
    pixels = np.frombuffer(image.data, np.uint16).reshape(image.height, image.width)
    assert set(np.unique(pixels)) == {0, *(p.label for p in array.people)}
    for block in crowd[2:]:
        person = of(array, block)
        assert pixels[int(block.y / 2), int(block.x / 2)] == person.label
        assert np.abs(np.array(person.box) - (block.box - 0.5)).max() < 4
    added = {m.id for m in markers[-1].markers if m.action == Marker.ADD and m.ns == "label"}
    assert added == {int(p.id.split("_")[1]) for p in array.people}
    (result,) = node.set_parameters([Parameter("max_people", value=2)])
    assert result.successful
    ros.play([4], people, image=picture(crowd))
    assert (len(people[-1].people), people[-1].others) == (2, 6)


def test_nobody_in_view_is_an_empty_list(ros: System) -> None:
    ros.perception(CrowdRuntime(), stride=1, gap_s=60.0)
    people = ros.listen(PersonArray, "people")
    ros.play(range(3), people, image=picture([]))
    assert all(not m.people and m.others == 0 for m in people)


def test_a_network_that_cannot_tell_people_apart_is_a_warning(ros: System, capfd) -> None:
    ros.perception(CrowdRuntime(CrowdManifest(windows=None)))
    said = capfd.readouterr()
    lines = [line for line in (said.out + said.err).splitlines() if "one skeleton" in line]
    assert len(lines) == 1
    assert "WARN" in lines[0]
