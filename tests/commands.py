"""Running the command line as a person does: a process, its output, its exit code."""

import asyncio
import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from cluster.home import locate
from cluster.process_table import processes
from cluster.settings import MARKER

BACK_S = 60.0
SWARM = str(Path(sys.executable).parent / "swarm")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"exit {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


@dataclass(frozen=True, kw_only=True)
class Shell:
    """A shell with its own SWARM_HOME and settings."""

    home: Path
    settings: dict[str, str]

    @property
    def environment(self) -> dict[str, str]:
        kept = {
            k: v
            for k, v in os.environ.items()  # noqa: TID251 - a child inherits it
            if not k.startswith(("SWARM_", "RAY_"))
        }
        return {**kept, "SWARM_HOME": str(self.home), **self.settings}

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            SWARM,
            *arguments,
            env=self.environment,
            cwd=self.home.parent,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )

    async def swarm(self, *arguments: str, stdin: str = "", deadline_s: float = 120.0) -> Outcome:
        process = await self.start(*arguments)
        async with asyncio.timeout(deadline_s):
            out, err = await process.communicate(stdin.encode())
        assert process.returncode is not None
        return Outcome(code=process.returncode, out=out.decode(), err=err.decode())

    async def status(self, deadline_s: float = 90.0) -> Outcome:
        """`swarm status --json`, once every part answers in its time: one may be late."""
        until = time.monotonic() + deadline_s
        while (outcome := await self.swarm("status", "--json")).code != 0:
            assert time.monotonic() < until, outcome
            await asyncio.sleep(0.2)
        return outcome

    def processes(self) -> list[psutil.Process]:
        """All that still runs for this home."""
        instance = locate(self.home).instance
        return [
            process for process in processes() if environment_of(process).get(MARKER) == instance
        ]

    def kill_actor(self, class_name: str) -> None:
        """kill -9 the process of the Ray actor of that class."""
        until, title = time.monotonic() + BACK_S, f"ray::{class_name}"[:15]
        while len(victims := [p for p in self.processes() if name_of(p).startswith(title)]) != 1:
            assert time.monotonic() < until, [name_of(p) for p in self.processes()]
            time.sleep(0.05)  # one that was killed before is on its way back
        victims[0].kill()


def name_of(process: psutil.Process) -> str:
    """Its name; none of one that has ended."""
    with suppress(psutil.Error):
        return process.name()
    return ""


def environment_of(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return {}
