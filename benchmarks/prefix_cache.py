"""How much of their prompts replicas find in cache, by the way in which a replica is chosen.

Two replicas of vLLM on the CPU, of a tiny model: what it says is nonsense, what is counted is
vLLM's own count of prompt tokens that it had computed before. The chat of an agent grows by what
was said before; the steps of a SPARC run are the prompts that the swarm itself writes.
"""

import asyncio
import json
import random
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from actors.model import Message, ModelRequest
from actors.prompt import build_messages, schema_for
from actors.roles import role_spec
from actors.sparc import SPARC
from actors.workflow import LoopSpec, StepSpec
from serve.inference import ModelClient, chat_request
from serve.profile import ModelProfile
from serve.scripted import ChatRequest, answer, parse
from serve.weights import ensure_weights
from tests.local_ray import serving_ray
from tests.tiny_model import SHIPPED, make_tiny, tiny_profile
from tests.unit.serve.quiet_ray import serve

ROUTERS = ("power-of-two", "prefix-aware")
REPLICAS = 2
CHATS, SAID = 8, 6
RUNS = 6
CONTEXT = 4096
BLOCK_TOKENS = 32
WEIGHTS = Path(tempfile.gettempdir()) / "swarm-test-weights"
SEED = 11
DEADLINE_S = 120.0

Prompts = Sequence[Sequence[Message]]
"""Of one run, in the order in which they are sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Tokens of prompts, and how many of them were in cache."""

    queried: int
    found: int

    @property
    def rate(self) -> float:
        """Between nothing and one."""
        return self.found / self.queried

    def since(self, before: "Found") -> "Found":
        """What came since."""
        return Found(queried=self.queried - before.queried, found=self.found - before.found)


async def measure(routers: Sequence[str] = ROUTERS) -> dict[tuple[str, str], Found]:
    """By workload and router."""
    tokenizer = await ensure_weights(SHIPPED, WEIGHTS)
    figures = {}
    with serving_ray(num_cpus=2 + REPLICAS) as folder:
        weights = folder / "tiny"
        await asyncio.to_thread(make_tiny, Path(tokenizer), weights, context=CONTEXT)
        for router in routers:
            model = await _served(router, weights)
            for name, runs in (("chats", chats()), ("SPARC", sparc_runs())):
                before = await _counted(router)
                await _ask_all(model, runs)
                figures[name, router] = (await _counted(router)).since(before)
            await asyncio.to_thread(serve.delete, router)
    return figures


def show(figures: dict[tuple[str, str], Found]) -> None:
    for (workload, router), found in figures.items():
        print(f"  {workload:<22} {router:<28} {found.rate:6.1%} of {found.queried:,}")


def chats() -> list[Prompts]:
    """Each begins with rules of its own, and repeats all that was said before."""
    generator = random.Random(SEED)  # noqa: S311  reproducible
    return [_chat(generator) for _ in range(CHATS)]


def _chat(generator: random.Random) -> Prompts:
    rules = Message(role="system", content=_words(generator, 200))
    said: list[Message] = [rules]
    prompts = []
    for _ in range(SAID):
        said.append(Message(role="user", content=_words(generator, 40)))
        prompts.append(list(said))
        said.append(Message(role="assistant", content=_words(generator, 40)))
    return prompts


def _words(generator: random.Random, count: int) -> str:
    letters = "abcdefghijklmnopqrstuvwxyz"
    return " ".join("".join(generator.choices(letters, k=5)) for _ in range(count))


def sparc_runs() -> list[Prompts]:
    """The prompts of runs in which each round of the refinement is done."""
    return [_sparc_run(f"Write part {number} of a rate limiter") for number in range(RUNS)]


def _sparc_run(objective: str) -> Prompts:
    answers: dict[str, dict[str, JsonValue]] = {}
    prompts = []
    for step in _in_order():
        spec = role_spec(step.role, step.name)
        inputs = {name: answers[name] for name in step.inputs if name in answers}
        messages = build_messages(spec, objective, inputs)
        prompts.append(messages)
        request = _request(messages, schema=schema_for(spec), max_tokens=1_000)
        said = answer(parse(ChatRequest, chat_request(request)))
        answers[step.name] = spec.read("".join(said.pieces))
    return prompts


def _request(
    messages: Sequence[Message], *, schema: Mapping[str, JsonValue] | None, max_tokens: int
) -> ModelRequest:
    return ModelRequest(
        messages=messages,
        schema=schema,
        max_tokens=max_tokens,
        temperature=0,
        seed=SEED,
        deadline_s=DEADLINE_S,
    )


def _in_order() -> list[StepSpec]:
    steps: list[StepSpec] = []
    for node in SPARC.nodes:
        steps += node.steps * node.limit if isinstance(node, LoopSpec) else (node,)
    return steps


async def _served(router: str, weights: Path) -> ModelClient:
    from serve.llm import build_model_app  # noqa: PLC0415  imports Ray

    app = build_model_app(_profile(router), weights)
    await asyncio.to_thread(serve.run, app, name=router, route_prefix=None)
    return ModelClient(app=router)


def _profile(router: str) -> ModelProfile:
    engine = {"enforce_eager": True, "max_num_seqs": 4, "block_size": BLOCK_TOKENS}
    return tiny_profile(
        f"tiny-{router}",
        router=router,
        replicas=REPLICAS,
        max_model_len=CONTEXT,
        engine_kwargs={**engine, "enable_prefix_caching": True},
    )


async def _counted(app: str) -> Found:
    asked = serve.get_app_handle(app).broadcast("prefix_cache")
    counts = await asyncio.to_thread(asked.results, timeout_s=DEADLINE_S)
    return Found(
        queried=sum(count["queried"] for count in counts),
        found=sum(count["found"] for count in counts),
    )


async def _ask_all(model: ModelClient, runs: Sequence[Prompts]) -> None:
    """One request at a time, the runs in turn: a run's next step is not asked where one ends."""
    for together in zip(*runs, strict=True):
        for messages in together:
            await _ask(model, messages)


async def _ask(model: ModelClient, messages: Sequence[Message]) -> None:
    request = _request(messages, schema=None, max_tokens=2)
    async with aclosing(model.stream(chat_request(request), deadline_s=DEADLINE_S)) as documents:
        async for document in documents:
            assert "error" not in json.loads(document), document
