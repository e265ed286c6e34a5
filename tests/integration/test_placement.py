"""Where the GPUs of each profile come from, on a cluster whose GPUs are only numbers."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cluster.gpus import gpus_in
from serve.fit import misfits
from serve.llm import placement_bundles
from serve.profile import ModelProfile, load_profile, profile_names
from tests.local_ray import ray_environment

pytestmark = pytest.mark.timeout(300)

ON_GPUS = [
    profile for name in profile_names() if (profile := load_profile(name)).accelerator == "gpu"
]
DEADLINE_S = 60.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:  # ray.cluster_utils.Cluster, which has no types
    """A head without a GPU and two nodes of eight."""
    with ray_environment() as folder:
        (folder / "ray").mkdir()
        import ray  # noqa: PLC0415  # reads its environment when it is imported
        from ray.cluster_utils import Cluster  # noqa: PLC0415

        head = {"num_cpus": 2, "num_gpus": 0, "include_dashboard": False}
        made = Cluster(initialize_head=True, head_node_args=head)
        try:
            for _ in range(2):
                made.add_node(num_cpus=2, num_gpus=8)
            ray.init(address=made.address, log_to_driver=False)
            yield made
        finally:
            ray.shutdown()
            made.shutdown()


@contextmanager
def placed(profile: ModelProfile) -> Iterator[Any]:
    """The placement group of one replica, taken away at the end."""
    from ray.util import placement_group, remove_placement_group  # noqa: PLC0415

    group = placement_group(placement_bundles(profile), strategy=profile.placement)
    try:
        yield group
    finally:
        remove_placement_group(group)


def nodes_of(group: Any) -> Counter[str]:
    """How many bundles each node holds."""
    from ray.util import placement_group_table  # noqa: PLC0415

    return Counter(placement_group_table(group)["bundles_to_node_id"].values())


async def until_free(gpus: float) -> None:
    """Returns when that many GPUs are free: a group that was removed gives them back soon."""
    import ray  # noqa: PLC0415

    async with asyncio.timeout(DEADLINE_S):
        while ray.available_resources().get("GPU", 0) < gpus:  # noqa: ASYNC110 - nobody calls
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("profile", ON_GPUS, ids=lambda profile: profile.name)
async def test_the_gpus_of_a_replica_are_found(cluster: Any, profile: ModelProfile) -> None:
    import ray  # noqa: PLC0415

    await until_free(16)
    assert misfits(profile, gpus_in(ray.nodes())) == ()
    with placed(profile) as group:
        assert group.wait(DEADLINE_S)
        on_nodes = nodes_of(group)
        assert sum(on_nodes.values()) == profile.accelerators
        assert all(count % profile.tensor_parallel == 0 for count in on_nodes.values())
        assert len(on_nodes) == -(-profile.accelerators // 8)


async def test_what_does_not_fit_is_not_placed_and_was_foretold(cluster: Any) -> None:
    import ray  # noqa: PLC0415

    await until_free(16)
    wide = load_profile("qwen2.5-72b").model_copy(update={"placement": "STRICT_PACK"})
    (reason,) = misfits(wide, gpus_in(ray.nodes()))
    assert "needs 16 GPUs in one node" in reason
    with placed(wide) as group:
        assert not group.wait(3)


async def test_a_node_that_is_lost_is_replaced_by_another(cluster: Any) -> None:
    profile = load_profile("qwen2.5-72b")
    await until_free(16)
    with placed(profile) as group:
        assert group.wait(DEADLINE_S)
        before = nodes_of(group)
        lost = next(node for node in cluster.worker_nodes if node.node_id in before)
        cluster.remove_node(lost)
        cluster.add_node(num_cpus=2, num_gpus=8)
        async with asyncio.timeout(DEADLINE_S):
            while lost.node_id in (after := nodes_of(group)) or len(after) != 2:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert sorted(after.values()) == [8, 8]
        assert len(before.keys() & after.keys()) == 1
