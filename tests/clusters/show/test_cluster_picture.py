"""The picture of a cluster: who is linked to whom, and that the drawing has all of it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from functools import partial
from itertools import combinations

import pytest

from clusters.deployment import Deployment
from clusters.ranges import span_text
from clusters.show.picture import MAX_MACHINES, Rect, picture, svg
from clusters.show.topology import Topology, collapse, topology
from tests.clusters.compiled_clusters import EXAMPLES, check_golden, compiled, example, large
from tests.clusters.hand_made_clusters import cluster, container, deployment, node

EXTERNAL = """\
name: ep
release: v0.13.0rc1
platform: a3
nic: eth0
recipe: qwen3-235b-a22b-w8a8/pd-3node-a3
ports: {kv: 36000}
nodes: {one: 10.0.0.1, two: 10.0.0.2, three: 10.0.0.3, spare: 10.0.0.4}
instances:
  prefill: {nodes: [one]}
  decode: {nodes: [two, three], external: true}
proxy: {node: one}
"""
OVER_NODES = """\
name: pp
release: v0.13.0rc1
platform: a3
nic: eth0
model: m
sizes: {tp: 16, pp: 2}
nodes: {one: 10.0.0.1, two: 10.0.0.2}
instances:
  serve: {role: leader, nodes: [one, two]}
"""
CASES: dict[str, Callable[[], Deployment]] = {
    **{path.stem: partial(example, path.stem) for path in EXAMPLES.glob("*.yaml")},
    "external": lambda: compiled(EXTERNAL),
    "over-nodes": lambda: compiled(OVER_NODES),
    "12 nodes": lambda: large(3, 4),
    "30 nodes": lambda: large(5, 12),
    "100 nodes": lambda: large(33, 33),
}


@pytest.fixture(params=sorted(CASES))
def whole(request: pytest.FixtureRequest) -> Topology:
    return topology(CASES[request.param]())


def links(found: Topology) -> list[str]:
    """`kind: source → target:port`, one a pair."""
    return [
        f"{link.kind}: {source.box} → {target.box}"
        + (f":{span_text(port)}" if (port := target.port or source.port) else "")
        for link in found.links
        for source in link.sources
        for target in link.targets
    ]


# ---- who talks to whom ---------------------------------------------------------------------------


def test_prefill_and_decode_behind_a_proxy() -> None:
    assert links(topology(example("pd-3node"))) == [
        "requests: clients → qwen3-pd-proxy:12347",
        "requests: qwen3-pd-proxy → qwen3-pd-prefill-0:8000",
        "requests: qwen3-pd-proxy → qwen3-pd-decode-0:8000",
        "KV transfer: qwen3-pd-prefill-0 → qwen3-pd-decode-0:36000-36015",
        "KV transfer: qwen3-pd-prefill-0 → qwen3-pd-decode-1:36000-36015",
        "joins leader: qwen3-pd-decode-1 → qwen3-pd-decode-0:13389",
    ]


def test_a_server_alone() -> None:
    assert links(topology(example("single"))) == ["requests: clients → qwen3-128k-serve-0:8000"]


def test_a_ray_cluster() -> None:
    assert links(topology(example("ray")))[1:] == [
        "joins Ray: qwen3-ray-serve-1 → qwen3-ray-serve-0:6379"
    ]


def test_one_rank_over_nodes() -> None:
    found = topology(compiled(OVER_NODES))
    assert links(found)[1:] == ["joins leader: pp-serve-1 → pp-serve-0:29501"]
    assert [box.ranks for one in found.machines for box in one.boxes] == [
        f"node {n} of 2 · tp 16 · pp 2" for n in (0, 1)
    ]


def test_each_rank_of_external_data_parallel_is_a_server() -> None:
    found = topology(compiled(EXTERNAL))
    assert [len(one.boxes) for one in found.machines] == [2, 4, 4, 0]
    behind = [one for one in links(found) if one.startswith("requests: ep-proxy")]
    assert len(behind) == 9
    joins = [one for one in links(found) if one.startswith("joins leader")]
    assert joins == [f"joins leader: ep-decode-{n} → ep-decode-0:13389" for n in range(1, 8)]
    assert found.machines[1].boxes[3].ranks == "dp 3 of 8 · tp 4"


def test_the_proxy_is_first_on_its_node_and_its_own_node_is_first() -> None:
    found = topology(example("pd-3node"))
    assert [box.role for box in found.machines[0].boxes] == ["proxy", "prefill"]
    assert topology(large(1, 1)).machines[0].names == ("node0",)


def test_a_container_that_is_refused_is_there_without_links() -> None:
    found = topology(deployment(cluster((node("one"),)), container(node("one"))))
    (machine,) = found.machines
    assert machine.boxes[0].ranks == "refused: see cluster.check"
    assert not found.links
    assert "refused" in svg(found)


def test_ports_that_meet_do_not_break_the_picture() -> None:
    """The file is wrong then, and the plan is shown all the same."""
    same = "ports: {api: 8000}, sizes: {tp: 8}"
    made = compiled(
        "name: x\nplatform: a3\nnic: eth0\nmodel: m\nnodes: {n: 10.0.0.1}\ninstances:\n"
        f"  a: {{role: single, nodes: [n], {same}}}\n  b: {{role: single, nodes: [n], {same}}}\n"
    )
    (machine,) = picture(topology(made)).machines
    assert [one.box.ports["api"] for one in machine.boxes] == [(8000, 8000)] * 2


# ---- many nodes ----------------------------------------------------------------------------------


def test_nodes_alike_become_one_and_no_end_is_lost() -> None:
    found = collapse(topology(large(20, 20)), MAX_MACHINES)
    assert [len(one.names) for one in found.machines] == [1, 20, 20, 20]
    assert [one.boxes[0].role for one in found.machines] == [
        *("proxy", "prefill", "decode", "headless")
    ]
    assert len(links(found)) == len(links(topology(large(1, 1)))) == 6
    names = {box.name for one in found.machines for box in one.boxes} | {"clients"}
    assert {end.box for link in found.links for end in (*link.sources, *link.targets)} <= names


def test_ranks_that_differ_are_shown_from_first_to_last() -> None:
    sizes = OVER_NODES.replace("tp: 16, pp: 2", "tp: 8, dp: 8")
    more = sizes.replace("two: 10.0.0.2", "two: 10.0.0.2, three: 10.0.0.3, four: 10.0.0.4")
    found = collapse(
        topology(compiled(more.replace("[one, two]", "[one, two, three, four]"))), MAX_MACHINES
    )
    leader, others = found.machines
    assert (leader.names, others.names) == (("one",), ("two", "three", "four"))
    assert others.boxes[0].ranks == "dp 2-3 of 8 · tp 8 … dp 6-7 of 8 · tp 8"
    assert others.boxes[0].name == "pp-serve-1 … pp-serve-3"
    assert others.boxes[0].count == 3
    assert links(found)[1:] == ["joins leader: pp-serve-1 … pp-serve-3 → pp-serve-0:29550"]


def test_many_nodes_make_a_small_picture() -> None:
    assert len(large(33, 33).cluster.nodes) > MAX_MACHINES
    drawn = picture(topology(large(33, 33)))
    assert len(drawn.machines) == 4
    assert drawn.whole.height < 800
    assert "33 nodes" in drawn.machines[1].facts


def test_many_instances_make_a_small_picture_too() -> None:
    names = [f"n{n}" for n in range(MAX_MACHINES + 1)]
    nodes = "".join(f"  {name}: 10.0.0.{n}\n" for n, name in enumerate(names, 1))
    one = "".join(f"  of-{name}: {{role: single, nodes: [{name}]}}\n" for name in names)
    head = "name: x\nplatform: a3\nnic: eth0\nmodel: m\nsizes: {tp: 8}\n"
    drawn = picture(topology(compiled(f"{head}nodes:\n{nodes}instances:\n{one}")))
    (machine,) = drawn.machines
    assert machine.boxes[0].title == "x-of-n0-0 … x-of-n40-0 x 41"
    assert [key.name for key in drawn.legend] == ["of-n0", "requests"]


# ---- the drawing ---------------------------------------------------------------------------------


def test_the_drawings_of_examples() -> None:
    for name in ("single", "pd-3node"):
        check_golden(f"picture/{name}.svg", svg(topology(example(name))))


def test_it_is_svg_that_needs_nothing_else(whole: Topology) -> None:
    text = svg(whole)
    root = ET.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert not re.search(r"script|href|url\(|@import|<image|<foreignObject", text)
    assert "prefers-color-scheme: dark" in text
    assert "198.18." not in text


def test_every_node_container_and_port_is_written(whole: Topology) -> None:
    words = "\n".join(ET.fromstring(svg(whole)).itertext())
    shown = whole if len(whole.machines) <= MAX_MACHINES else collapse(whole, MAX_MACHINES)
    for one in shown.machines:
        assert one.address in words
        for name in one.names:
            assert re.search(rf"\b{re.escape(name)}\b", words), name
        for box in one.boxes:
            assert box.name in words
            for kind, port in box.ports.items():
                assert f"{kind} {span_text(port)}" in words


def inside(one: Rect, other: Rect) -> bool:
    return (
        one.x >= other.x
        and one.y >= other.y
        and one.right <= other.right
        and one.bottom <= other.bottom
    )


def apart(one: Rect, other: Rect) -> bool:
    return (
        one.right <= other.x
        or other.right <= one.x
        or one.bottom <= other.y
        or other.bottom <= one.y
    )


def test_nothing_overlaps_and_nothing_is_cut_off(whole: Topology) -> None:
    drawn = picture(whole)
    outer = [drawn.clients, *(one.rect for one in drawn.machines)]
    assert all(apart(one, other) for one, other in combinations(outer, 2))
    assert all(inside(one, drawn.whole) for one in outer)
    for machine in drawn.machines:
        boxes = [one.rect for one in machine.boxes]
        assert all(inside(one, machine.rect) for one in boxes)
        assert all(apart(one, other) for one, other in combinations(boxes, 2))
    for wire in drawn.wires:
        assert drawn.whole.x < wire.x < drawn.whole.right
        assert not 0 <= wire.x <= drawn.machines[0].rect.right
    assert drawn.legend[-1].y < drawn.whole.bottom


def test_no_line_runs_upon_another(whole: Topology) -> None:
    drawn = picture(whole)
    for one, other in combinations(drawn.wires, 2):
        assert one.x != other.x or one.bottom < other.top or other.bottom < one.top
    ends = [(stub.x, stub.y) for wire in drawn.wires for stub in wire.stubs]
    assert len(set(ends)) == len(ends)


def test_every_end_of_every_link_is_drawn_at_its_box(whole: Topology) -> None:
    drawn = picture(whole)
    boxes = {one.box.name: one.rect for machine in drawn.machines for one in machine.boxes}
    boxes["clients"] = drawn.clients
    assert len(drawn.wires) == len(drawn.topology.links)
    for wire in drawn.wires:
        met = [(wire.link.sources, False), (wire.link.targets, True)]
        wanted = [(end.box, arrow) for ends, arrow in met for end in ends]
        for (name, arrow), stub in zip(wanted, wire.stubs, strict=True):
            assert stub.arrow == arrow
            assert boxes[name].y < stub.y < boxes[name].bottom


def test_names_are_text() -> None:
    one = node("<a&b>")
    text = svg(topology(deployment(cluster((one,)), container(one, "x<y"))))
    assert "<a&b>" in list(ET.fromstring(text).itertext())
