"""Workers under Ray: a real placement group and real actors, without computation.

Like vLLM's Ray executor (0.13.0: v1/executor/ray_utils.py): a placement group with a bundle of one
NPU for each rank, the first on this node. But a node has one actor here, not one for each rank.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from engine.group import Group

DEVICE = "NPU"
TIMEOUT = 1800.0  # vLLM's for the placement group
POLL = 1.0


class Workers(Group):
    def gather(self) -> None:
        """Wait until every rank has its NPU and every node its actor. Raises OSError."""
        import ray
        from ray.util import placement_group, placement_group_table

        world = self.options.tp * self.options.pp
        ray.init(address="auto", log_to_driver=False, logging_level="warning")
        available = int(ray.cluster_resources().get(DEVICE, 0))
        self.state.say(f"ray: {available} of {world} {DEVICE} are available")
        bundles: list[dict[str, float]] = [{DEVICE: 1.0} for _ in range(world)]
        bundles[0][f"node:{ray.util.get_node_ip_address()}"] = 0.001
        group = placement_group(bundles, strategy="PACK")
        try:
            ray.get(group.ready(), timeout=TIMEOUT)
        except ray.exceptions.RayError as error:
            raise OSError(f"no placement group of {world} {DEVICE}: {error}") from None
        nodes = placement_group_table(group)["bundles_to_node_id"]
        first = {node: bundle for bundle, node in reversed(sorted(nodes.items()))}
        actors = [_actor(group, bundle) for bundle in first.values()]
        hosts = ray.get([actor.host.remote() for actor in actors])
        self.state.say(f"ray: workers on {', '.join(sorted(hosts))}")
        threading.Thread(target=self._monitor, args=(actors,), daemon=True).start()

    def _monitor(self, actors: list[Any]) -> None:
        import ray

        try:
            while ray.get([actor.host.remote() for actor in actors]):
                time.sleep(POLL)
        except Exception as error:  # Ray's, for a lost actor, node or head
            self.state.say(f"ray: a worker is gone: {type(error).__name__}")
            self.state.broken.set()


def _actor(group: Any, bundle: int) -> Any:
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    class Worker:  # local, so that Ray sends it to nodes without this module
        def host(self) -> str:
            return str(ray.util.get_node_ip_address())

    place = PlacementGroupSchedulingStrategy(group, bundle)
    options = {"num_cpus": 0, "resources": {DEVICE: 1}, "scheduling_strategy": place}
    return ray.remote(Worker).options(**options).remote()
