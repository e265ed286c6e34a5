"""vLLM behind the interface of a model app: `chat`, `embedding`, `models`, `check_health`.

The engine is ray.serve.llm's, configured from a model profile. What decides the
configuration is pure and stands first. The deployment imports vLLM inside its
replica only, so that whoever deploys it does not pay for the import.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from importlib.util import find_spec
from multiprocessing import forkserver, set_forkserver_preload
from os import sched_getaffinity
from pathlib import Path
from typing import Any

import structlog
from pydantic import BaseModel, JsonValue, ValidationError
from ray import serve
from ray.serve import Application

from actors.model import Engine
from serve.completion import error_document
from serve.embedder import Embedder, refuse_other_length
from serve.errors import ModelUnavailable
from serve.fingerprint import fingerprint
from serve.profile import ModelProfile
from serve.routing import router_config
from serve.scripted import ScriptedModel
from serve.vllm_embedder import embedded, pooling_kwargs
from serve.weights_digest import known_digest

log = structlog.get_logger()

# Serve learns of a replica's death when it asks next.
_HEALTH_PERIOD_S = 1.0
# A replica that imports vLLM without compiled bytecode on a loaded machine is far from dead.
_HEALTH_TIMEOUT_S = 30.0
_SHUTDOWN_S = 20.0
# Chunks that come within this time go out together.
_STREAM_BATCH_MS = {"cpu": 0, "gpu": 50}
_SSE_PREFIX = "data: "
_SSE_END = "[DONE]"


def engine_kwargs(profile: ModelProfile) -> dict[str, JsonValue]:
    """Give the engine arguments of vLLM for the profile."""
    kwargs: dict[str, JsonValue] = {
        "dtype": profile.dtype,
        "max_model_len": profile.max_model_len,
        "tensor_parallel_size": profile.tensor_parallel,
        "pipeline_parallel_size": profile.pipeline_parallel,
        **pooling_kwargs(profile),
    }
    if profile.gpu_memory_utilization is not None:
        kwargs["gpu_memory_utilization"] = profile.gpu_memory_utilization
    if profile.quantization is not None:
        kwargs["quantization"] = profile.quantization
    given = dict(profile.engine_kwargs)
    if profile.structured_outputs is not None:
        asked = given.pop("structured_outputs_config", {})
        rest = asked if isinstance(asked, dict) else {}
        kwargs["structured_outputs_config"] = {**rest, "backend": profile.structured_outputs}
    return {**kwargs, **given}


def placement_bundles(profile: ModelProfile) -> list[dict[str, float]]:
    """Resources of one replica, a bundle for each accelerator.

    The replica itself runs in the first bundle, beside the first worker.
    """
    if profile.accelerator == "cpu":
        return [{"CPU": float(profile.accelerators)}]
    bundle = {"GPU": 1.0}
    if profile.accelerator_type is not None:
        bundle[f"accelerator_type:{profile.accelerator_type}"] = 0.001
    rest = [dict(bundle) for _ in range(profile.accelerators - 1)]
    return [{"CPU": 1.0, **bundle}, *rest]


def llm_config(profile: ModelProfile, weights: str) -> dict[str, Any]:
    """Keyword arguments of ray.serve.llm.LLMConfig for the profile.

    Args:
        profile: A profile whose engine is vLLM.
        weights: A directory on every node, or a hub id.
    """
    config: dict[str, Any] = {
        "model_loading_config": {"model_id": profile.served_name, "model_source": weights},
        "engine_kwargs": engine_kwargs(profile),
        "accelerator_config": {"kind": profile.accelerator},
        "placement_group_config": {
            "bundles": placement_bundles(profile),
            "strategy": profile.placement,
        },
        "experimental_configs": {
            "stream_batching_interval_ms": _STREAM_BATCH_MS[profile.accelerator]
        },
        "runtime_env": {"env_vars": dict(profile.env)},
    }
    if profile.accelerator_type is not None:
        config["accelerator_type"] = profile.accelerator_type
    return config


def process_env(
    profile: ModelProfile, *, cores: int, preload: Sequence[str] = ()
) -> dict[str, str]:
    """Environment of the replica and of the engine process that it starts.

    Args:
        profile: Its own `env` wins over what is set here.
        cores: CPU cores of the machine, or of the part of it that we may use.
        preload: Libraries that vLLM's CPU build wants loaded before all others.
    """
    env = {
        # Without compiled bytecode every process compiles 6,000 modules again.
        "PYTHONDONTWRITEBYTECODE": "",
    }
    if profile.accelerator == "cpu" and profile.engine != "scripted":
        # OpenMP reads this once, when a process starts. One core is left to everybody else: its
        # threads wait for each other after each layer, so one that is held up holds up all.
        env["OMP_NUM_THREADS"] = str(max(1, (cores - 1) // profile.accelerators))
        if preload:
            env["LD_PRELOAD"] = ":".join(preload)
    return {**env, **profile.env}


def deployment_options(profile: ModelProfile, env: Mapping[str, str]) -> dict[str, Any]:
    """Options of the Serve deployment for the profile."""
    options: dict[str, Any] = {
        "name": _deployment_name(profile),
        "max_ongoing_requests": profile.max_ongoing_requests,
        "max_queued_requests": profile.max_queued_requests,
        "health_check_period_s": _HEALTH_PERIOD_S,
        "health_check_timeout_s": _HEALTH_TIMEOUT_S,
        "graceful_shutdown_timeout_s": _SHUTDOWN_S,
        "ray_actor_options": {
            "num_cpus": 0 if _embeds_itself(profile) else 1,  # it waits most of the time
            "runtime_env": {"env_vars": dict(env)},
        },
    }
    if profile.autoscaling is None:
        options["num_replicas"] = profile.replicas
    else:
        options["autoscaling_config"] = {
            "min_replicas": profile.autoscaling.least,
            "max_replicas": profile.autoscaling.most,
            "target_ongoing_requests": profile.autoscaling.target_ongoing_requests,
        }
    if (router := router_config(profile)) is not None:
        options["request_router_config"] = router
    if profile.engine == "vllm":
        options["placement_group_bundles"] = placement_bundles(profile)
        options["placement_group_strategy"] = profile.placement
    return options


def _embeds_itself(profile: ModelProfile) -> bool:
    """Whether the replica computes the vectors, without an engine that has a place of its own."""
    return profile.task == "embed" and profile.engine != "vllm"


def _deployment_name(profile: ModelProfile) -> str:
    """What the dashboard shows."""
    if profile.task == "embed":
        return f"Embedder:{profile.name}"
    return f"VLLM:{profile.name}" if profile.engine == "vllm" else "Scripted"


def documents(item: object) -> list[str]:
    """The JSON documents in one item that ray.serve.llm's chat yields.

    An item is a list of server-sent events, or a single typed answer or error.
    """
    if isinstance(item, list):
        return [document for part in item for document in documents(part)]
    if isinstance(item, str):
        # Not str.splitlines: it also splits at what JSON leaves as it is, such as U+2028.
        ended = (line.removesuffix("\r") for line in item.split("\n"))
        lines = (line.removeprefix(_SSE_PREFIX) for line in ended)
        return [line for line in lines if line.strip() and line != _SSE_END]
    dump = getattr(item, "model_dump_json", None)
    if dump is None:
        raise TypeError(f"the engine yielded {type(item).__name__}")
    return [str(dump(exclude_none=True))]


def preload_libraries() -> list[str]:
    """Libraries that vLLM's CPU build wants preloaded, where the wheels carry them."""
    found: list[str] = []
    for package, pattern in (
        ("vllm", "libs/libtcmalloc_minimal*.so*"),
        ("torch", "lib/libgomp*.so*"),
    ):
        spec = find_spec(package)  # looks, does not import
        for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
            found.extend(str(path) for path in sorted(Path(folder).glob(pattern))[:1])
    return found


class VllmModel:
    """A replica of a vLLM model. Ready when its constructor has returned."""

    def __init__(self, profile: ModelProfile, weights: str) -> None:
        self._profile = profile
        self._weights = weights
        self._created = int(time.time())
        self._server: Any = None  # ray.serve.llm.LLMServer, which has no types

    async def reconfigure(self, _: object) -> None:
        """Start the engine; Serve calls this before it sends a request."""
        if self._server is not None:
            return
        started = time.monotonic()
        cpu = self._profile.accelerator == "cpu"
        if cpu:
            set_forkserver_preload(["serve.engine", "vllm.v1.worker.cpu_worker"])
            forkserver.ensure_running()
        digest = asyncio.create_task(asyncio.to_thread(known_digest, self._weights))
        await asyncio.sleep(0)  # the files are read while the import holds this thread
        from serve.engine import VLLM, create_server, vector_length  # noqa: PLC0415  # imports vLLM

        imported = time.monotonic()
        engine = fingerprint(Engine(name="vllm", version=VLLM, weights=await digest))
        config = llm_config(self._profile, self._weights)
        config["engine_kwargs"] |= {"fingerprint_mode": "custom", "fingerprint_value": engine}
        server = create_server(config, cpu=cpu)
        await server.start()  # type: ignore[no-untyped-call]
        if self._profile.task == "embed":
            refuse_other_length(self._profile, self._weights, vector_length(server))
        self._server = server
        log.info(
            "model.started",
            model=self._profile.served_name,
            fingerprint=engine,
            import_s=round(imported - started, 1),
            engine_s=round(time.monotonic() - imported, 1),
        )

    async def chat(self, request: dict[str, JsonValue]) -> AsyncGenerator[str, None]:
        """Answer an OpenAI chat request, as the documents of serve/completion.py."""
        from ray.serve.llm.openai_api_models import ChatCompletionRequest  # noqa: PLC0415

        async with aclosing(self._answer(ChatCompletionRequest, request, "chat")) as answer:
            async for document in answer:
                yield document

    async def completion(self, request: dict[str, JsonValue]) -> AsyncGenerator[str, None]:
        """Say how a text goes on, for an OpenAI completion request."""
        from ray.serve.llm.openai_api_models import CompletionRequest  # noqa: PLC0415

        async with aclosing(self._answer(CompletionRequest, request, "completions")) as answer:
            async for document in answer:
                yield document

    async def embedding(self, request: dict[str, JsonValue]) -> AsyncGenerator[str, None]:
        """Answer an OpenAI embedding request with one document, as the Embedder does."""
        yield await embedded(self._server, self._profile, request)

    async def _answer(
        self, kind: type[BaseModel], request: dict[str, JsonValue], method: str
    ) -> AsyncGenerator[str, None]:
        try:
            parsed = kind.model_validate({"model": self._profile.served_name, **request})
        except ValidationError as error:
            yield error_document(str(error), 400)
            return
        # Closing the stream, as Serve does when the caller has gone, aborts the engine's request.
        async with aclosing(await getattr(self._server, method)(parsed)) as stream:
            async for item in stream:
                for document in documents(item):
                    yield document

    async def in_work(self) -> int:
        """How many requests the engine works on."""
        from serve.engine import in_work  # noqa: PLC0415  # see reconfigure

        return 0 if self._server is None else in_work(self._server)

    async def models(self) -> dict[str, JsonValue]:
        """The OpenAI list of models, of which there is one."""
        model: dict[str, JsonValue] = {
            "id": self._profile.served_name,
            "object": "model",
            "created": self._created,
            "owned_by": "vllm",
            "max_model_len": self._profile.max_model_len,
        }
        if self._profile.dimensions is not None:
            model["dimensions"] = self._profile.dimensions
        return {"object": "list", "data": [model]}

    async def prefix_cache(self) -> dict[str, int]:
        """Tokens of prompts that this replica was sent, and of these how many were in cache.

        They are `queried` and `found`, since its start.
        """
        counted: dict[str, int] = self._server.prefix_cache()
        return counted

    async def check_health(self) -> None:
        """Raise when the engine is dead, so that Serve replaces the replica."""
        if self._server is None:
            raise ModelUnavailable("the engine has not started")
        await self._server.check_health()


def build_model_app(profile: ModelProfile, weights: str | Path) -> Application:
    """Make the Serve application that answers for the profile.

    Run it with `serve.run(app, name="model", route_prefix=None)`. Building it imports no engine.

    Args:
        profile: What to serve.
        weights: What `serve.weights.ensure_weights` returned: a directory that every node
            sees under this path, or a hub id. The scripted engine has none.
    """
    cpu = profile.accelerator == "cpu" and profile.engine == "vllm"
    env = process_env(
        profile,
        cores=len(sched_getaffinity(0)),
        preload=preload_libraries() if cpu else (),
    )
    options = deployment_options(profile, env)
    if profile.task == "generate" and profile.engine == "scripted":
        return serve.deployment(**options)(ScriptedModel).bind(profile)
    # A user_config makes Serve call `reconfigure`.
    options["user_config"] = {"profile": profile.name}
    if _embeds_itself(profile):
        return serve.deployment(**options)(Embedder).bind(profile, str(weights))
    return serve.deployment(**options)(VllmModel).bind(profile, str(weights))
