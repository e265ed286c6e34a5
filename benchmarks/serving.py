"""Talking to the model through the gateway, beside vLLM's own OpenAI server; and embeddings.

A whole swarm with vLLM on the CPU, and vLLM's server with the same weights, engine arguments,
environment and priority, both up: the machine is asked by one of them at a time, in turn, round
by round, so that whatever else it does falls on both. Each answer is of the same length.
"""

import asyncio
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from pydantic import JsonValue

from benchmarks.world import beside, quiet
from cluster import ports
from serve.llm import engine_kwargs, preload_libraries, process_env
from serve.profile import ModelProfile, load_profile
from serve.weights import embedding_source, ensure_weights
from swarm import AsyncSwarm
from swarm.home import gateway_url
from tests.commands import Shell

PROFILE: Final = "smollm2-135m"
EMBEDDER: Final = "all-minilm-l6-v2"
CLIENTS: Final = (1, 4, 16)
ROUNDS: Final = 5
TOKENS: Final = 64
"""Of each answer."""
AIM: Final = 0.9
"""Of vLLM's own tokens/s, at the most clients."""
BATCHES: Final = (1, 32)
TEXTS: Final = 256
"""That are embedded in each round."""
WEIGHTS: Final = Path(tempfile.gettempdir()) / "swarm-bench-weights"
"""Kept: they take a minute to make."""
START_S: Final = 300.0
ANSWER_S: Final = 300.0
GATEWAY: Final = "through the gateway"
OWN: Final = "vLLM's own server"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An OpenAI server."""

    client: httpx.AsyncClient
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of one round, or the medians of several."""

    first_token_ms: float
    tokens_per_s: float


@asynccontextmanager
async def swarm_up(profile: ModelProfile) -> AsyncIterator[httpx.AsyncClient]:
    """A client, with an API key, of the gateway of a swarm of its own."""
    await ensure_weights(profile, WEIGHTS)
    with tempfile.TemporaryDirectory(prefix="swarm-bench-") as directory:
        home = Path(directory) / "home"
        home.mkdir(mode=0o700)
        (home / "models").mkdir(mode=0o700)
        shutil.copytree(WEIGHTS / profile.name, home / "models" / profile.name)
        ports = {"SWARM_GATEWAY_PORT": "0", "SWARM_DASHBOARD_PORT": "0"}
        shell = Shell(home=home, settings=ports)
        started = await shell.swarm("up", "--model", profile.name, deadline_s=START_S)
        if started.code != 0:
            raise RuntimeError(str(started))
        try:
            async with await AsyncSwarm.connect(home=home) as swarm:
                scopes = ["chat.complete", "embedding.create"]
                key = (await swarm.people.create_api_key("bench", scopes)).key
            headers = {"Authorization": f"Bearer {key}"}
            async with _client(gateway_url(home), headers) as client:
                yield client
        finally:
            await shell.swarm("down")


@asynccontextmanager
async def vllm_up(profile: ModelProfile) -> AsyncIterator[httpx.AsyncClient]:
    """A client of vLLM's own server, as the profile has it."""
    port = ports.drawn()
    cores = len(os.sched_getaffinity(0))
    environment = process_env(profile, cores=cores, preload=preload_libraries())
    with tempfile.TemporaryFile() as output:
        server = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
            *("--model", str(WEIGHTS / profile.name), "--served-model-name", profile.served_name),
            *("--host", "127.0.0.1", "--port", str(port), "--disable-uvicorn-access-log"),
            *_flags(engine_kwargs(profile)),
            env={**os.environ, **environment},  # noqa: TID251 - a child inherits it
            stdout=output,
            stderr=output,
        )
        try:
            async with _client(f"http://127.0.0.1:{port}", {}) as client:
                if not await _healthy(client, server):
                    output.seek(0)
                    raise RuntimeError(output.read()[-4000:].decode())
                yield client
        finally:
            if server.returncode is None:
                server.terminate()
            await server.wait()


def _flags(arguments: dict[str, JsonValue]) -> Iterator[str]:
    for name, value in arguments.items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            yield flag if value else flag.replace("--", "--no-", 1)
        else:
            yield flag
            yield json.dumps(value) if isinstance(value, dict) else str(value)


def _client(url: str, headers: dict[str, str]) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=ANSWER_S)


async def _healthy(client: httpx.AsyncClient, server: asyncio.subprocess.Process) -> bool:
    async with asyncio.timeout(START_S):
        while server.returncode is None:
            try:
                if (await client.get("/health")).is_success:
                    return True
            except httpx.TransportError:
                await asyncio.sleep(0.5)
    return False


async def ask(target: Target, number: int) -> tuple[float, int]:
    """Seconds until the first word of an answer, and its tokens."""
    body = {
        "model": target.model,
        "messages": [{"role": "user", "content": f"Tell the story of traveller {number}."}],
        "max_tokens": TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    began, first, tokens = time.perf_counter(), 0.0, 0
    async with target.client.stream("POST", "/v1/chat/completions", json=body) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line.removeprefix("data: "))
            if not first and chunk["choices"] and chunk["choices"][0]["delta"].get("content"):
                first = time.perf_counter() - began
            if chunk.get("usage"):
                tokens = chunk["usage"]["completion_tokens"]
    if tokens != TOKENS:
        raise RuntimeError(f"an answer of {tokens} tokens, not {TOKENS}")
    return first, tokens


async def a_round(target: Target, clients: int, number: int) -> Figures:
    """Every client asks once, all at once."""
    began = time.perf_counter()
    asked = [ask(target, number * 1_000 + client) for client in range(clients)]
    answers = await asyncio.gather(*asked)
    took = time.perf_counter() - began
    return Figures(
        first_token_ms=statistics.median(first for first, _ in answers) * 1e3,
        tokens_per_s=sum(tokens for _, tokens in answers) / took,
    )


async def chats(targets: dict[str, Target]) -> AsyncIterator[tuple[int, dict[str, Figures]]]:
    """Medians by server, for each number of clients; they take turns at who begins."""
    for target in targets.values():
        await a_round(target, max(CLIENTS), 0)
    for clients in CLIENTS:
        rounds: dict[str, list[Figures]] = {name: [] for name in targets}
        for number in range(1, ROUNDS + 1):
            for name in sorted(targets, reverse=bool(number % 2)):
                rounds[name].append(await a_round(targets[name], clients, number))
        yield clients, {name: _median(figures) for name, figures in rounds.items()}


def _median(figures: list[Figures]) -> Figures:
    return Figures(
        first_token_ms=statistics.median(each.first_token_ms for each in figures),
        tokens_per_s=statistics.median(each.tokens_per_s for each in figures),
    )


def texts(number: int) -> list[str]:
    """Of some twenty tokens each."""
    return [
        f"Note {number}-{n}: a token bucket lets bursts of up to {n} requests pass at once."
        for n in range(TEXTS)
    ]


async def embeddings_per_s(client: httpx.AsyncClient, batch: int) -> float:
    """Texts a second, one request at a time; the median of the rounds."""
    rates = []
    for number in range(ROUNDS):
        wanted = texts(number)
        began = time.perf_counter()
        for at in range(0, TEXTS, batch):
            body = {"model": EMBEDDER, "input": wanted[at : at + batch]}
            (await client.post("/v1/embeddings", json=body)).raise_for_status()
        rates.append(TEXTS / (time.perf_counter() - began))
    return statistics.median(rates)


def raw_embeddings(path: str, environment: dict[str, str]) -> None:
    """Another process: the model alone; texts a second by batch, as JSON in a file."""
    os.environ.update(environment)  # noqa: TID251 - torch reads it when it is imported
    from serve.encoder import SentenceEncoder  # noqa: PLC0415

    encoder = SentenceEncoder(embedding_source(), load_profile(EMBEDDER).max_model_len)
    encoder.encode(texts(0)[:32])
    rates: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    for number in range(ROUNDS):
        for batch, measured in rates.items():
            wanted = texts(number)
            began = time.perf_counter()
            for at in range(0, TEXTS, batch):
                encoder.encode(wanted[at : at + batch])
            measured.append(TEXTS / (time.perf_counter() - began))
    Path(path).write_text(json.dumps({b: statistics.median(r) for b, r in rates.items()}))


async def _raw_embeddings() -> dict[int, float]:
    environment = process_env(load_profile(EMBEDDER), cores=len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory(prefix="swarm-bench-") as directory:
        found = Path(directory) / "rates.json"
        with beside(raw_embeddings, str(found), environment) as process:
            await asyncio.to_thread(process.join, START_S)
        return {int(b): float(rate) for b, rate in json.loads(found.read_text()).items()}


async def show() -> None:
    """Print the figures, with the ratios."""
    profile = load_profile(PROFILE)
    print(f"\nChat on {PROFILE}, {TOKENS} tokens an answer, streamed: medians of {ROUNDS} rounds")
    async with swarm_up(profile) as gateway:
        async with vllm_up(profile) as own:
            targets = {
                GATEWAY: Target(client=gateway, model=profile.served_name),
                OWN: Target(client=own, model=profile.served_name),
            }
            async for clients, figures in chats(targets):
                _show_chat(clients, figures)
        print(f"\nEmbeddings on {EMBEDDER}, one request at a time")
        raw = await _raw_embeddings()
        for batch in BATCHES:
            rate = await embeddings_per_s(gateway, batch)
            print(
                f"  {batch:3} texts a request   {GATEWAY} {rate:7.1f}/s"
                f"   the model alone {raw[batch]:7.1f}/s   ratio {rate / raw[batch]:.2f}"
            )


def _show_chat(clients: int, figures: dict[str, Figures]) -> None:
    for name, one in figures.items():
        print(
            f"  {clients:3} clients   {name:<20} first token {one.first_token_ms:7.1f} ms"
            f"   {one.tokens_per_s:7.1f} tokens/s"
        )
    ratio = figures[GATEWAY].tokens_per_s / figures[OWN].tokens_per_s
    later = figures[GATEWAY].first_token_ms - figures[OWN].first_token_ms
    aim = f"   aim {AIM:.2f}" if clients == max(CLIENTS) else ""
    print(
        f"  {clients:3} clients   ratio {ratio:.2f} of the tokens/s{aim}"
        f"   first token {later:+.1f} ms"
    )


if __name__ == "__main__":
    quiet()
    asyncio.run(show())
