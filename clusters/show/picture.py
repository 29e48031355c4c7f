"""The topology as an SVG: a column of nodes, with requests on the left, groups and KV transfers on
the right. Each link is a vertical line with stubs to its ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from clusters.ranges import span_text
from clusters.show.topology import CLIENTS, REQUESTS, Box, End, Link, Machine, Topology, collapse

MAX_MACHINES = 40  # more machines are drawn in groups
COLOURS = 12  # in the template
TEMPLATE = "picture.svg.j2"

# In pixels. CHARACTER: the width in the widest font of the template.
CHARACTER, LINE, HEADER = 7.0, 17, 30
PAD, GAP, LANE, MARGIN = 10, 22, 14, 16
MIN_WIDTH = 420  # room for the legend
TITLE = 44


@dataclass(frozen=True)
class Rect:
    """A rectangle; y grows downwards, x is 0 at the left edge of the nodes."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height


@dataclass(frozen=True)
class DrawnBox:
    """A container. `colour`: of its instance, None for a proxy. `title`: follows its role."""

    box: Box
    rect: Rect
    colour: int | None
    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class DrawnMachine:
    """A node. `facts`: follow its title."""

    machine: Machine
    rect: Rect
    title: str
    facts: str
    boxes: tuple[DrawnBox, ...]


@dataclass(frozen=True)
class Stub:
    """A line from a box's edge at (`x`, `y`) to the wire. `arrow`: it points at the box."""

    x: float
    y: float
    arrow: bool
    label: str


@dataclass(frozen=True)
class Wire:
    """A link: a vertical line at `x` with its stubs. `side`: -1 for left, 1 for right."""

    link: Link
    side: int
    x: float
    top: float
    bottom: float
    stubs: tuple[Stub, ...]

    @property
    def words(self) -> str:
        """A description for screen readers."""
        sides = (self.link.sources, self.link.targets)
        return f"{self.link.kind}: {' → '.join(', '.join(e.box for e in side) for side in sides)}"


@dataclass(frozen=True)
class LegendEntry:
    """An entry of the legend: an instance with its colour, or a kind of links."""

    name: str
    colour: int | None
    x: float
    y: float


@dataclass(frozen=True)
class Picture:
    """The complete drawing."""

    topology: Topology
    whole: Rect
    clients: Rect
    machines: tuple[DrawnMachine, ...]
    wires: tuple[Wire, ...]
    legend: tuple[LegendEntry, ...]


def svg(topology: Topology) -> str:
    """The SVG file, without scripts, fonts or external resources."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["px"] = lambda value: f"{value:.1f}".removesuffix(".0")
    templates.filters["class"] = lambda kind: kind.lower().replace(" ", "-")
    return templates.get_template(TEMPLATE).render(picture=picture(topology))


def picture(topology: Topology) -> Picture:
    """Lay out the topology; more than MAX_MACHINES are drawn in groups of similar ones."""
    if len(topology.machines) > MAX_MACHINES:
        topology = collapse(topology, MAX_MACHINES)
    drawn = {box.instance for one in topology.machines for box in one.boxes}
    named = (name for name in topology.instances if name in drawn)
    colours = {name: n % COLOURS for n, name in enumerate(named)}
    width = max([MIN_WIDTH, *(_width(one) for one in topology.machines)])
    clients = Rect(0, TITLE, 90, 28)
    machines, y = [], clients.bottom + GAP
    for one in topology.machines:
        machines.append(_machine(one, y, width, colours))
        y = machines[-1].rect.bottom + GAP
    rects = {one.box.name: one.rect for machine in machines for one in machine.boxes}
    rects[CLIENTS] = clients
    wires = (
        *_wires([one for one in topology.links if one.kind == REQUESTS], rects, 0, -1),
        *_wires([one for one in topology.links if one.kind != REQUESTS], rects, width, 1),
    )
    legend = _legend(topology, colours, y, width)
    left = min([0.0, *(wire.x for wire in wires)]) - MARGIN
    right = max([width, *(wire.x for wire in wires)]) + MARGIN
    return Picture(
        topology=topology,
        whole=Rect(left, 0, right - left, legend[-1].y + LINE + MARGIN),
        clients=clients,
        machines=tuple(machines),
        wires=wires,
        legend=legend,
    )


def _legend(
    topology: Topology, colours: Mapping[str, int], y: float, width: float
) -> tuple[LegendEntry, ...]:
    entries = [*colours.items(), *dict.fromkeys((one.kind, None) for one in topology.links)]
    keys: list[LegendEntry] = []
    x = 0.0
    for entry, colour in entries:
        own = len(entry) * CHARACTER + 44
        if x and (x + own > width or (colour is None and keys[-1].colour is not None)):
            x, y = 0.0, y + LINE + 5
        keys.append(LegendEntry(entry, colour, x, y))
        x += own
    return tuple(keys)


# ---- nodes ---------------------------------------------------------------------------------------


def _machine(machine: Machine, y: float, width: float, colours: Mapping[str, int]) -> DrawnMachine:
    boxes, at = [], y + HEADER
    for box in machine.boxes:
        lines = _lines(box)
        rect = Rect(PAD, at, width - 2 * PAD, LINE * (len(lines) + 1) + 10)
        boxes.append(DrawnBox(box, rect, colours.get(box.instance), _title(box), lines))
        at = rect.bottom + PAD
    whole = Rect(0, y, width, at - y)
    return DrawnMachine(machine, whole, _name(machine), _facts(machine), tuple(boxes))


def _name(machine: Machine) -> str:
    first, last = machine.names[0], machine.names[-1]
    return first if first == last else f"{first} … {last}"


def _facts(machine: Machine) -> str:
    count = f"{len(machine.names)} nodes" if len(machine.names) > 1 else ""
    unused = "" if machine.boxes else "not used"
    return " · ".join(filter(None, (count, machine.address, machine.platform, unused)))


def _lines(box: Box) -> tuple[str, ...]:
    devices = f"NPUs {box.devices}" if box.devices else ""
    listens = " · ".join(f"{kind} {span_text(port)}" for kind, port in box.ports.items())
    return tuple(filter(None, (" · ".join(filter(None, (box.ranks, devices))), listens)))


def _title(box: Box) -> str:
    return f"{box.name} x {box.count}" if box.count > 1 else box.name


def _width(machine: Machine) -> float:
    own = len(_name(machine)) + len(_facts(machine)) + 3
    inside = (
        max(len(box.role) + len(_title(box)) + 3, *(len(line) for line in _lines(box)), 0)
        for box in machine.boxes
    )
    return max(own, *inside, 0) * CHARACTER + 4 * PAD


# ---- links ---------------------------------------------------------------------------------------


def _wires(
    links: Sequence[Link], rects: Mapping[str, Rect], edge: float, side: int
) -> tuple[Wire, ...]:
    """The links beside the nodes: short ones near, and none over another."""
    ends = [list(_ends(link)) for link in links]
    heights = _heights(ends, rects)
    reach = [
        [heights[n, end.box, arrow] for end, arrow, _ in those] for n, those in enumerate(ends)
    ]
    room = max((len(label) for those in ends for _, _, label in those), default=0)
    lanes: list[list[tuple[float, float]]] = []
    wires = []
    for n in sorted(range(len(links)), key=lambda n: max(reach[n]) - min(reach[n])):
        top, bottom = min(reach[n]), max(reach[n])
        free = (lane for lane in lanes if all(bottom < a - LINE or top > b + LINE for a, b in lane))
        lane = next(free, None)
        if lane is None:
            lanes.append(lane := [])
        lane.append((top, bottom))
        x = edge + side * (room * CHARACTER + 26 + LANE * lanes.index(lane))
        stubs = []
        for end, arrow, label in ends[n]:
            rect = rects[end.box]
            at = rect.x if side < 0 else rect.right
            stubs.append(Stub(at, heights[n, end.box, arrow], arrow, label))
        wires.append(Wire(links[n], side, x, top, bottom, tuple(stubs)))
    return tuple(reversed(wires))


_End = tuple[End, bool, str]


def _ends(link: Link) -> Iterable[_End]:
    """Each end, whether it is a target, and its port as text."""
    for ends, arrow in ((link.sources, False), (link.targets, True)):
        for end in ends:
            yield end, arrow, span_text(end.port) if end.port else ""


def _heights(
    ends: Sequence[Sequence[_End]], rects: Mapping[str, Rect]
) -> dict[tuple[int, str, bool], float]:
    """(link, box, target) → y, with the ends at one box spread over its edge."""
    at: dict[str, list[tuple[int, str, bool]]] = {}
    for n, those in enumerate(ends):
        for end, arrow, _ in those:
            at.setdefault(end.box, []).append((n, end.box, arrow))
    return {
        key: rects[box].y + rects[box].height * (i + 1) / (len(keys) + 1)
        for box, keys in at.items()
        for i, key in enumerate(keys)
    }
