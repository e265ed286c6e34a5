"""The vLLM engine as a replica runs it.

Only a replica imports this module, and late: it pulls in vLLM, which takes ten
to thirty seconds of one core. On CPU the engine differs from ray.serve.llm's own
in three ways, none of which changes an answer. All serve to start in one import
of vLLM instead of four: the engine process is forked from a server that imports
vLLM while the replica does, it runs the model itself instead of starting a
worker for it, and no task visits the node to fetch weights that are there.
"""

import ctypes
import signal
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any, cast

import vllm
from ray.llm._internal.common.callbacks.base import CallbackBase
from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine
from ray.serve.llm import LLMConfig
from ray.serve.llm.deployment import LLMServer
from vllm.model_executor.models import registry
from vllm.v1.engine import utils as engine_processes
from vllm.v1.metrics.loggers import AggregateStatLoggerBase

VLLM = vllm.__version__
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class EngineProcess(ForkServerProcess):
    """An engine process that does not outlive the server it was forked from.

    That server in turn ends with the replica, however the replica ends.
    """

    def run(self) -> None:
        """Run the engine."""
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        super().run()


class EngineContext(ForkServerContext):
    """Where vLLM gets the engine process from."""

    Process = EngineProcess


class LocalWeights(CallbackBase):
    """Tells ray.serve.llm that the weights are on the node already."""

    async def on_before_node_init(self) -> None:
        """Skip the task that would fetch them."""
        self.ctx.run_init_node = False


class CpuEngine(VLLMEngine):
    """vLLM on CPU with the model inside the engine process."""

    def _prepare_engine_config(self, callback_ctx: Any) -> Any:
        # vLLM inspects the model's class in a new process, lest that touch a GPU; there is none.
        registry._run_in_subprocess = _call  # type: ignore[assignment]  # noqa: SLF001
        args, frontend, config = super()._prepare_engine_config(callback_ctx)
        # vLLM insists on a worker process of its own because OpenMP reads its settings when a
        # process starts. Here the fork server was started with them. A model that is split has
        # a worker for each part.
        if config.parallel_config.world_size == 1:
            config.parallel_config.distributed_executor_backend = "uni"
        return args, frontend, config

    def _start_async_llm_engine(self, *args: Any) -> Any:
        engine_processes.get_mp_context = EngineContext  # type: ignore[attr-defined]
        return super()._start_async_llm_engine(*args)


class PrefixCacheCounter(AggregateStatLoggerBase):
    """Counts prompt tokens, and how many of them were in cache, beside vLLM's own metrics.

    Those go to Ray, where a process cannot read its own.
    """

    def __init__(self) -> None:
        self.queried = 0
        self.found = 0

    def record(self, scheduler_stats: Any, *_: Any, **__: Any) -> None:
        """Take what vLLM counted since it called last."""
        stats = getattr(scheduler_stats, "prefix_cache_stats", None)
        if stats is not None:
            self.queried += stats.queries
            self.found += stats.hits

    def log_engine_initialized(self) -> None:
        """There is nothing to say yet."""


class Server(LLMServer):
    """The server of ray.serve.llm, which reports to nobody.

    Its own reports each start to an actor that it starts for the purpose.
    """

    async def _start_engine(self) -> None:
        if self.engine is not None:
            await self.engine.start()  # type: ignore[no-untyped-call]
            self._prefix_cache = PrefixCacheCounter()
            client: Any = self.engine._engine_client  # type: ignore[attr-defined]  # noqa: SLF001
            if client.logger_manager is not None:  # a profile may turn vLLM's counting off
                client.logger_manager.stat_loggers.append(self._prefix_cache)

    def prefix_cache(self) -> dict[str, int]:
        """Tokens of prompts since the engine started: `queried`, and of these `found` in cache."""
        return {"queried": self._prefix_cache.queried, "found": self._prefix_cache.found}


def _call(function: Callable[[], Any]) -> Any:
    return function()


def in_work(server: Any) -> int:
    """How many requests the engine of a server has not finished, nor given up."""
    return int(server.engine._engine_client.get_num_unfinished_requests())  # noqa: SLF001


def vector_length(server: Any) -> int:
    """How many numbers the vectors of a server have that was started to embed."""
    return int(server.engine._engine_client.model_config.embedding_size)  # noqa: SLF001


def create_server(settings: Mapping[str, Any], *, cpu: bool) -> Server:
    """Make the ray.serve.llm server, not yet started.

    Args:
        settings: Keyword arguments of ray.serve.llm.LLMConfig.
        cpu: Whether to use the engine for CPU described above.
    """
    if not cpu:
        return cast("Server", Server.sync_init(LLMConfig(**settings)))
    config = LLMConfig(**settings, callback_config={"callback_class": LocalWeights})
    return cast("Server", Server.sync_init(config, engine_cls=CpuEngine))
