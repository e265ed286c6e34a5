"""Chaos: runs handed in without a break while parts of the swarm are killed at random."""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final

from actors.replay import replay
from bus.event import StoredEvent
from bus.payloads import RunFailed, RunSubmitted
from bus.received import Received, RefusedEvent
from tests.chaos.checker import TERMINAL, Violation
from tests.chaos.plan import Strike, plan
from tests.chaos.swarm import ChaosSwarm

AT_ONCE: Final = 4
DELAY_S: Final = 0.15
LEASE_S: Final = 2.0
BACK_S: Final = 90.0
ENDED_S: Final = 180.0
JUDGED_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """A process that was killed, and when."""

    victim: str
    pid: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of it."""

    seed: int
    kills: Sequence[Kill]
    runs: Mapping[str, str]
    """How each accepted run ended, by its id."""
    failures: Mapping[str, str]
    """Why runs failed, by their ids."""
    events: int
    refused: int
    """Results that came too late and were refused by an event."""
    stalls: Mapping[str, Sequence[float]] = field(repr=False)
    """By victim: for each kill, seconds until every run in the middle had moved on."""
    violations: Sequence[Violation]
    divergences: Mapping[str, str]
    """What a replay without a model makes differently, by run."""
    seconds: float

    @property
    def is_clean(self) -> bool:
        """Whether nothing was lost, done twice, or cannot be replayed."""
        return not self.violations and not self.divergences


async def unleash(folder: Path, *, seed: int, runs: int, kills: int) -> Outcome:
    """Start a swarm, give it that many runs, kill that many processes, judge what is left.

    Raises:
        AssertionError: the swarm did not start, or a run did not end in time.
    """
    swarm = ChaosSwarm.in_folder(folder, delay_s=DELAY_S, lease_s=LEASE_S)
    await swarm.up()
    began = time.monotonic()
    try:
        struck = asyncio.Event()
        ends: dict[str, str] = {}
        async with asyncio.TaskGroup() as group:
            striking = group.create_task(_strike(swarm, plan(seed, kills), seed, struck))
            numbers = _numbers(runs, struck)
            for _ in range(AT_ONCE):
                group.create_task(_work(swarm, numbers, ends, seed))
        await swarm.until_healthy(BACK_S)
        received, violations = await swarm.judged(deadline_s=JUDGED_S)
    finally:
        await swarm.down()
    return Outcome(
        seed=seed,
        kills=striking.result(),
        runs=ends,
        failures=failures(received),
        events=len(received),
        refused=sum(1 for each in _stored(received) if each.event.type.endswith("refused.v1")),
        stalls=stalls(received, striking.result()),
        violations=violations,
        divergences=divergences(received, ends),
        seconds=time.monotonic() - began,
    )


def failures(received: Sequence[Received]) -> dict[str, str]:
    """Why each run failed that did."""
    ended = ((each.event.run, each.payload()) for each in _stored(received))
    return {
        run: f"{end.step or 'run'}: {end.code}: {end.message}"
        for run, end in ended
        if isinstance(end, RunFailed)
    }


def divergences(received: Sequence[Received], runs: Collection[str]) -> dict[str, str]:
    """Replay every run from the log alone; the first difference of each that is not equal."""
    logs: dict[str, list[Received]] = {run: [] for run in runs}
    for each in received:
        run = each.run if isinstance(each, RefusedEvent) else each.event.run
        if run in logs:
            logs[run].append(each)
    replays = {run: replay(events) for run, events in logs.items()}
    return {run: str(made.divergence) for run, made in replays.items() if not made.is_equal}


def _numbers(runs: int, struck: asyncio.Event) -> Iterator[int]:
    """Numbers of runs to hand in: as many as asked for, and more while there is killing."""
    number = 0
    while number < runs or not struck.is_set():
        number += 1
        yield number


async def _work(swarm: ChaosSwarm, numbers: Iterator[int], ends: dict[str, str], seed: int) -> None:
    for number in numbers:
        run = await swarm.submit(f"chaos-{seed}-{number}", deadline_s=ENDED_S)
        ends[run] = (await swarm.ended(run, deadline_s=ENDED_S)).status


async def _strike(
    swarm: ChaosSwarm, strikes: Sequence[Strike], seed: int, struck: asyncio.Event
) -> list[Kill]:
    kills = []
    chance = random.Random(seed)  # noqa: S311  repeatable, not secret
    for strike in strikes:
        await asyncio.sleep(strike.pause_s)
        pids = await swarm.kill(*strike.victims, deadline_s=BACK_S, chance=chance)
        at = datetime.now(UTC)
        kills += [Kill(victim=v, pid=p, at=at) for v, p in zip(strike.victims, pids, strict=True)]
    struck.set()
    return kills


def stalls(received: Sequence[Received], kills: Sequence[Kill]) -> dict[str, list[float]]:
    """By victim, for each kill: seconds until every run in the middle had its next event."""
    runs: dict[str, list[datetime]] = defaultdict(list)
    ends: dict[str, datetime] = {}
    for each in _stored(received):
        run, payload = each.event.run, each.payload()
        if isinstance(payload, RunSubmitted) or run in runs:
            runs[run].append(each.stored_at)
        if isinstance(payload, TERMINAL):
            ends[run] = each.stored_at
    found: dict[str, list[float]] = defaultdict(list)
    for kill in kills:
        longest = [
            (min(moment for moment in moments if moment > kill.at) - kill.at).total_seconds()
            for run, moments in runs.items()
            if moments[0] < kill.at < ends.get(run, moments[0])
        ]
        if longest:
            found[kill.victim].append(max(longest))
    return dict(found)


def _stored(received: Sequence[Received]) -> Iterator[StoredEvent]:
    return (each for each in received if isinstance(each, StoredEvent))


def report(outcome: Outcome) -> str:
    """The outcome as a table for people."""
    killed = Counter(kill.victim for kill in outcome.kills)
    lines = [f"{'killed':<18}{'times':>6}{'median s':>10}{'max s':>8}"]
    for victim, times in killed.most_common():
        lines.append(f"{victim:<18}{times:>6}{_figures(outcome.stalls.get(victim, ()))}")
    everything = [stall for each in outcome.stalls.values() for stall in each]
    lines.append(f"{'together':<18}{killed.total():>6}{_figures(everything)}")
    ends = ", ".join(f"{n} {status}" for status, n in Counter(outcome.runs.values()).items())
    lines += [
        "(seconds from the kill until every run in the middle had moved on)",
        f"runs accepted      {len(outcome.runs)}: {ends}",
        *(f"  {run}: {why}" for run, why in outcome.failures.items()),
        f"events             {outcome.events}, {outcome.refused} late results refused",
        f"violations         {len(outcome.violations)}",
        *(f"  {violation}" for violation in outcome.violations),
        f"replayed           {len(outcome.runs)}, {len(outcome.divergences)} differ",
        *(f"  {run}: {found}" for run, found in outcome.divergences.items()),
        f"seed {outcome.seed}, {outcome.seconds:.0f} s without the start",
    ]
    return "\n".join(lines)


def _figures(seconds: Sequence[float]) -> str:
    if not seconds:
        return f"{'-':>10}{'-':>8}"
    return f"{median(seconds):>10.2f}{max(seconds):>8.2f}"
