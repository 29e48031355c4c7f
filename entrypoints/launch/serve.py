"""The command of a node that serves: the only module that writes `vllm serve`."""

from __future__ import annotations

from entrypoints.findings import DATA, Finding
from entrypoints.inputs import arguments, catalogue, model, references
from entrypoints.inputs.arguments import Flag, Flags
from entrypoints.launch import features, kv, ray, topology
from entrypoints.launch.context import Context
from entrypoints.launch.environment import References, environment, references_here
from entrypoints.launch.facts import Facts
from entrypoints.launch.model import Launch, Peer, Ports
from entrypoints.launch.topology import Place
from entrypoints.messages import finding

# vllm: defaults of --port, --data-parallel-rpc-port and --master-port.
API_PORT = 8000
DP_RPC_PORT = 29550
MASTER_PORT = 29501

# A recipe's flags for rank 0 only: a headless node has its own start rank, and must not have
# API servers (vllm: vllm/entrypoints/cli/serve.py).
_NOT_HEADLESS = ("--api-server-count", "--data-parallel-start-rank")
# Under external data parallel, --data-parallel-rank replaces it.
_NOT_EXTERNAL = ("--data-parallel-start-rank",)


def launch(node: Context, place: Place, findings: list[Finding]) -> Launch:
    """The launch of a node that serves, or that runs engines for one that does.

    Errors and warnings go to `findings`.
    """
    recipe, release = node.recipe, node.release
    wanted = _features(node, place, findings)
    named = references_here(node, place, api_port(node, place))
    own = _recipe_flags(node, place, wanted.flags, named, findings)
    flags = arguments.merge(_derived(node, place), own)
    made = kv.config(node.settings, recipe, place, release.kv_port)
    if made is not None:
        made = references.fill(made, named, f"{node.at_recipe}: kv_transfer", findings)
        flags = arguments.merge(flags, [Flag("--kv-transfer-config", (arguments.compact(made),))])
    flags = arguments.merge(flags, node.appended, node.catalogue.repeatable)
    transfer = _transfer(place, flags, findings)

    env, expands, sources = environment(node, place, wanted.env, named, findings)
    whole = {**node.environ, **env}
    ports = _ports(node, place, flags, transfer, whole.get("ASCEND_BASE_PORT", ""))
    _check_ports(ports, findings)
    seen = Facts(
        release=release,
        platform=node.platform,
        recipe=recipe,
        place=place,
        transfer=transfer,
        ports=ports,
        flags=flags,
        env=whole,
        model=model.find(node.model, flags),
        concurrency=node.settings.concurrency or place.block.concurrency,
        model_name=_model_name(node),
    )
    findings += catalogue.unread(whole, node.catalogue)
    return Launch(
        role=place.role.name,
        title=_title(node, place),
        env=env,
        expands=expands,
        argv=("vllm", "serve", node.model, *arguments.render(flags)),
        ports=ports,
        before=(ray.start_head(node),) if place.layout == topology.RAY else (),
        peers=_peers(node, place, flags),
        leader=_leader(node, place),
        scheme="https" if "--ssl-certfile" in flags else "http",
        multi_node=place.nodes > 1 or transfer is not None or place.layout == topology.EXTERNAL,
        npus=_npus(node, place),
        context=node,
        place=place,
        facts=seen,
        sources=sources,
    )


def _model_name(node: Context) -> str:
    """The recipe's model where MODEL is a path that does not end with a name of its own."""
    return " ".join(filter(None, (node.model, node.recipe.model if node.recipe else "")))


def _features(node: Context, place: Place, findings: list[Finding]) -> features.Forms:
    """The recipe's features, and those that the node's variables request."""
    wanted = dict(place.block.features)
    at = f"{node.at_recipe}: features"
    drain = node.settings.drain_timeout
    forms = node.release.features
    if drain is not None and not forms["shutdown_timeout"].missing:
        wanted["shutdown_timeout"] = drain
    elif drain is not None and not node.settings.supervise:
        lacks = forms["shutdown_timeout"]
        findings.append(finding("no-drain", source=lacks.source, missing=lacks.missing))
    return features.forms(wanted, at, node.release, node.environ, findings)


def api_port(node: Context, place: Place) -> int:
    """The API's port. Under external data parallel, a recipe states the port of the first rank."""
    if node.settings.port:
        return node.settings.port
    port = place.block.port or API_PORT
    return port + place.local_rank if place.layout == topology.EXTERNAL else port


def _derived(node: Context, place: Place) -> Flags:
    """The flags that follow from variables, sizes and the node's place."""
    given = node.settings
    layout, follows = place.layout, place.role.follows
    names = node.recipe.served_model_name if node.recipe else ()
    if given.served_model_name:
        names = (given.served_model_name,)
    local = layout == topology.DATA_PARALLEL
    external = layout == topology.EXTERNAL
    nodes = layout == topology.NODES
    leader = given.leader_ip if follows or (external and place.dp_rank) else node.address.local_ip
    stated = given.port or place.block.port or external
    meets = external or _has_coordinator(node, place)
    rows: tuple[tuple[str, object, bool], ...] = (
        ("--port", api_port(node, place), bool(stated)),
        ("--headless", True, follows),
        ("--tensor-parallel-size", place.sizes.tp, True),
        ("--pipeline-parallel-size", place.sizes.pp, True),
        ("--prefill-context-parallel-size", place.sizes.pcp, True),
        ("--data-parallel-size", place.sizes.dp, True),
        (
            "--data-parallel-size-local",
            place.dp_local,
            (local and meets) or (place.sizes.dp_local is not None and not external),
        ),
        ("--data-parallel-start-rank", place.start_rank, follows and local),
        ("--data-parallel-rank", place.dp_rank, external),
        ("--data-parallel-address", leader, meets),
        ("--data-parallel-rpc-port", _rpc_port(node, place), meets),
        ("--nnodes", place.nodes, nodes),
        ("--node-rank", place.rank, nodes),
        ("--master-addr", leader, nodes),
        ("--distributed-executor-backend", "ray", layout == topology.RAY),
    )
    flags = [
        Flag(name) if value is True else Flag(name, (str(value),))
        for name, value, wanted in rows
        if wanted and value is not None
    ]
    if names:
        flags.append(Flag("--served-model-name", names))
    return arguments.merge({}, flags)


def _recipe_flags(
    node: Context,
    place: Place,
    wanted: tuple[Flag, ...],
    named: References,
    findings: list[Finding],
) -> list[Flag]:
    """The recipe's flags for this node, with those of its features."""
    drop: tuple[str, ...] = _NOT_HEADLESS if place.role.headless else ()
    if place.layout != topology.DATA_PARALLEL:
        drop = (*drop, *_NOT_EXTERNAL)
    flags = []
    for flag in (*place.block.flags(), *wanted):
        if flag.name not in drop:
            where = f"{node.at_recipe}: args.{flag.name.removeprefix('--')}"
            values = tuple(references.fill(v, named, where, findings) for v in flag.values)
            flags.append(Flag(flag.name, values))
    catalogue.check_flags(flags, f"{node.at_recipe}: args", node.catalogue, findings, DATA)
    catalogue.check_variables(
        place.block.env, node.catalogue, findings, f"{node.at_recipe}: env", DATA
    )
    return [catalogue.resolve(flag, node.catalogue) for flag in flags]


def _transfer(place: Place, flags: Flags, findings: list[Finding]) -> kv.Transfer | None:
    name = "--kv-transfer-config"
    if any(problem.where == name for problem in findings):
        return None
    if name in flags:
        return kv.read(arguments.json_of(flags, name), findings)
    if place.group.kv_role:
        findings.append(finding("missing-kv-transfer", role=place.group.name))
    return None


def _rpc_port(node: Context, place: Place) -> int:
    return node.settings.dp_rpc_port or place.block.dp_rpc_port or DP_RPC_PORT


def _has_coordinator(node: Context, place: Place) -> bool:
    """Whether the data parallel ranks meet at a port: those of one node do if it is stated."""
    stated = node.settings.dp_rpc_port or place.block.dp_rpc_port
    return place.layout == topology.DATA_PARALLEL and (place.nodes > 1 or bool(stated))


def _master_port(flags: Flags) -> int:
    text = arguments.value_of(flags, "--master-port") or ""
    return int(text) if text.isascii() and text.isdigit() else MASTER_PORT


def _ports(
    node: Context, place: Place, flags: Flags, transfer: kv.Transfer | None, adxl_base: str
) -> Ports:
    """The ports on which this node listens.

    kv: only a producer listens (vllm-ascend v0.13.0: mooncake_connector.py:931-945, 1138-1145).
    """
    ports: dict[str, int | list[int]] = {}
    if not place.role.headless:
        ports["api"] = api_port(node, place)
    if place.leads:
        if place.layout == topology.EXTERNAL or _has_coordinator(node, place):
            ports["dp_rpc"] = _rpc_port(node, place)
        elif place.layout == topology.NODES:
            ports["master"] = _master_port(flags)
        elif place.layout == topology.RAY:
            ports["ray"] = ray.port(node)
    if transfer and transfer.mooncake:
        if transfer.produces:
            from entrypoints.inputs import keys  # reads the catalogue

            each, spread = place.devices_per_rank, place.layout == topology.NODES
            here = place.devices if spread else place.ranks_here * each
            first = (transfer.port or node.release.kv_port) + place.start_rank * each
            first += place.rank * here if spread else 0
            ports["kv"] = [first, first + here - 1]
            if keys.schedulers_after(transfer.connector, node.release):
                # One for each data parallel rank, after the workers of all ranks.
                first = (transfer.port or node.release.kv_port) + place.dp * each + place.start_rank
                ports["kv_schedulers"] = [first, first + place.ranks_here - 1]
        if node.platform and node.platform.devices:
            ports["adxl"] = list(node.release.adxl_ports.of(node.platform, adxl_base))
    return ports


def _check_ports(ports: Ports, findings: list[Finding]) -> None:
    """Our own ports must not overlap. Those of the transport only cause warnings."""
    taken = [
        (name, *(port if isinstance(port, list) else (port, port)))
        for name, port in ports.items()
        if name != "adxl"
    ]
    for i, (name, first, last) in enumerate(taken):
        if last > 65535:
            findings.append(finding("bad-ports.beyond-65535", name=name, first=first, last=last))
        for other, low, high in taken[:i]:
            if first <= high and last >= low:
                findings.append(
                    finding("bad-ports.overlap", other=other, low=low, name=name, first=first)
                )


def _peers(node: Context, place: Place, flags: Flags) -> tuple[Peer, ...]:
    """The peers to wait for. The leader's coordinator listens until the group is complete."""
    leader = node.settings.leader_ip
    if not leader or place.leads or place.layout == topology.RAY:
        return ()
    if place.layout == topology.NODES:
        return (Peer("the leader's rendezvous", leader, _master_port(flags)),)
    return (Peer("the leader's data parallel coordinator", leader, _rpc_port(node, place)),)


def _leader(node: Context, place: Place) -> Peer | None:
    """The API of a headless node's leader, without which the node must end."""
    leader = node.settings.leader_ip
    if not place.role.headless or not leader:
        return None
    return Peer("the leader", leader, api_port(node, place), "/health")


def _npus(node: Context, place: Place) -> int:
    """With Ray, the number of NPUs that the cluster waits for: every node's, or those in use."""
    if place.layout != topology.RAY or (node.platform and not node.platform.devices):
        return 0
    each = place.visible or (node.platform.devices if node.platform else 0)
    return max(place.world, place.nodes * each)


def _title(node: Context, place: Place) -> str:
    who = place.role.name
    if place.role.headless:
        who += f" of {place.group.name}"
    where = f" (node {place.rank} of {place.nodes})" if place.nodes > 1 else ""
    if place.dp_rank is not None:
        where = f" (data parallel rank {place.dp_rank} of {place.dp})"
    elif place.layout == topology.RAY:
        where = f" ({place.nodes} nodes)"
    named = f"recipe {node.recipe.title}" if node.recipe else "no recipe"
    return f"role {who}{where}, {named}, release {node.release.name}, model {node.model}"
