"""A real witness: its own directory, its own process, asked over HTTP."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from storage.cosignature import CosignerKey, cosign, join_signatures
from storage.note import parse_note
from swarm.witness.state import StateDirectory, Watched, open_state
from tests.branching import LOG_VKEY, ORIGIN, Branch

ROOT = Path(__file__).parents[1]
NAME = "witness.example/w1"
WATCHED = Watched(origin=ORIGIN, keys=(LOG_VKEY,))
MAIN = Branch.of(("a", 20))
START_S = 30.0


def cosigned(state: StateDirectory, size: int, time_s: int = 1) -> str:
    note = MAIN.note(size)
    line = cosign(parse_note(note).text, state.parties.own_key.name, state.key, time_s)
    return join_signatures(note, [line])


def witness_that_signed(path: Path, *sizes: int) -> tuple[str, list[str]]:
    """Its verifier key, and the notes."""
    with open_state(path, WATCHED, NAME) as state:
        notes = [cosigned(state, size) for size in sizes]
        for note in notes:
            state.keep(note)
        return str(state.parties.own_key), notes


@dataclass(frozen=True)
class Running:
    """A witness that listens."""

    process: asyncio.subprocess.Process
    key: CosignerKey
    url: str
    http: httpx.AsyncClient

    async def add(self, body: bytes) -> httpx.Response:
        return await self.http.post("/add-checkpoint", content=body)

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def running_witness(
    state: Path,
    *options: str,
    watched: Watched = WATCHED,
    listen: str = "127.0.0.1:0",
    module: tuple[str, ...] = ("swarm.witness",),
) -> AsyncIterator[Running]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *module,
        "--origin", watched.origin, "--log-key", str(watched.keys[0]),
        "--state", str(state), "--listen", listen, *options,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(START_S):
            key, url = await _word(process, "verifier key"), await _word(process, "listening on")
        async with httpx.AsyncClient(base_url=url, timeout=START_S) as http:
            yield Running(process, CosignerKey.parse(key), url, http)
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def _word(process: asyncio.subprocess.Process, said: str) -> str:
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    assert line.startswith(said), line
    return line.removeprefix(said).strip()
