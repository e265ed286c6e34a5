"""Which replica answers a request: one that has the beginning of its prompt in cache.

The choice is that of ray.serve.llm's PrefixCacheAffinityRouter. It runs in each process that
asks; what every replica was asked before stands in a tree that all of them share, an actor.
The class is imported from where Ray keeps it, because the public module imports vLLM, which
takes each agent 6 s.
"""

import time
from collections.abc import Mapping
from typing import Any, Final

import ray
import structlog
from ray.exceptions import RayError
from ray.llm._internal.serve.routing_policies.prefix_aware.prefix_aware_router import (
    PrefixCacheAffinityRouter,
)
from ray.llm._internal.serve.routing_policies.prefix_aware.prefix_tree import PrefixTreeActor
from ray.serve._private.common import DeploymentID
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE
from ray.serve._private.request_router.common import PendingRequest
from ray.serve._private.request_router.pow_2_router import PowerOfTwoChoicesRequestRouter
from ray.serve._private.request_router.replica_wrapper import RunningReplica

log = structlog.get_logger()

_PROMPT_FIELDS: Final = ("messages", "prompt")


def prompt_of(request: object) -> object:
    """What a model is to read of an OpenAI request; None where it reads nothing."""
    fields = request if isinstance(request, Mapping) else {}
    return next((fields[name] for name in _PROMPT_FIELDS if fields.get(name)), None)


class PrefixAwareRouter(PrefixCacheAffinityRouter):
    """Ray's router, for requests that are dicts, and with a way out of each dead end.

    What Ray's own raises ends the task that was to find a replica, and the request would wait
    until its deadline. So whatever keeps it from choosing by prefix leaves the choice to the
    power of two choices: the tree may know a replica that this process has not heard of yet,
    and the tree's actor may die. A new one is made then; it starts empty.
    """

    # Serve and Ray's own class have the types of these methods otherwise than they use them.

    def initialize_state(self, **settings: Any) -> None:  # type: ignore[override]
        """Find the tree, or plant it; Serve calls this once."""
        super().initialize_state(**settings, tree_actor=_tree_of(self._deployment_id))

    def _extract_text_from_request(  # type: ignore[override]
        self, pending_request: PendingRequest
    ) -> str | None:
        prompts = (prompt_of(argument) for argument in pending_request.args)
        prompt = next((found for found in prompts if found is not None), None)
        return self._normalize_prompt_to_string(prompt) or None

    async def choose_replicas(  # type: ignore[override]
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """The replicas that know the prompt, and after them, should they be full, any two."""
        chosen: list[Any] = []
        try:
            chosen = await super().choose_replicas(candidate_replicas, pending_request)
        except KeyError as error:  # another process has heard of a replica before this one
            log.debug("routing.unknown_replica", replica=str(error))
        except RayError as error:
            self._plant_anew(error)
        others = await PowerOfTwoChoicesRequestRouter.choose_replicas(
            self,  # type: ignore[arg-type]  # has the mixins that it needs
            candidate_replicas,
            pending_request,
        )
        return [*chosen, *others]

    def on_request_routed(self, *routed: Any) -> None:
        """Note what the replica has read now."""
        try:
            super().on_request_routed(*routed)
        except RayError as error:
            self._plant_anew(error)

    def on_replica_actor_died(self, *died: Any) -> None:
        """Forget a replica."""
        try:
            super().on_replica_actor_died(*died)
        except RayError as error:
            self._plant_anew(error)

    def update_replicas(self, *replicas: Any) -> None:
        """Take the replicas that there are now."""
        try:
            super().update_replicas(*replicas)
        except RayError as error:
            self._plant_anew(error)

    def _plant_anew(self, error: RayError) -> None:
        """Go on with an empty tree; whoever is first makes it."""
        log.warning("routing.tree_lost", reason=type(error).__name__)
        self._tree_actor = _tree_of(self._deployment_id)
        known = [replica_id.to_full_id_str() for replica_id in self._replica_id_set]
        self._tree_actor.add_tenants.remote(known, time.time())


def _tree_of(deployment: DeploymentID) -> Any:
    """The actor with the tree of a deployment, made if there is none; ends with Serve.

    Ray's router would make it as well, but only where a CPU is free.
    """
    name = f"PrefixTree:{deployment.app_name}:{deployment.name}"
    options = {"name": name, "namespace": SERVE_NAMESPACE, "lifetime": "detached"}
    tree_class: Any = PrefixTreeActor  # which Ray's decorator has made an actor class
    tree = tree_class.options(get_if_exists=True, num_cpus=0, **options).remote()
    controller = ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    ray.get(controller._register_shutdown_cleanup_actor.remote(tree))  # noqa: SLF001
    return tree
