"""Signatures are checked by a process of its own; without it, the same is decided."""

import asyncio
import os
import signal
import sys
import time
from contextlib import aclosing
from dataclasses import replace

import psutil
import pytest

from bus.event import SIGNATURE_HEADER, Event, StoredEvent
from bus.received import Received, RefusedEvent
from bus.signature_checks import WORTH_ASKING, signature_checks
from bus.subjects import ALL_EVENTS
from tests.broker import Broker
from tests.integration.bus.test_own_events import checked as signatures_checked_here
from tests.sending import appended, new_sender, submitted

__all__ = ["signatures_checked_here"]

SENDER = new_sender()
EVENTS = [appended(SENDER, "r1", f"job {n}") for n in range(200)]
MANY = 2 * WORTH_ASKING
PROGRAM = "signature_process.py"


def forged(event: Event) -> Event:
    """Under the signature of another one."""
    other = EVENTS[-1].headers[SIGNATURE_HEADER]
    return replace(event, headers={**event.headers, SIGNATURE_HEADER: other})


def children(pid: int) -> list[psutil.Process]:
    """The processes that check for the one that asks them."""
    alive = [c for c in psutil.Process(pid).children() if c.status() != psutil.STATUS_ZOMBIE]
    return [each for each in alive if any(PROGRAM in word for word in each.cmdline())]


def child_of(pid: int) -> psutil.Process:
    """The one that checks for it; for an instant after its start it shows no command line."""
    deadline = time.monotonic() + 10
    while not (found := children(pid)) and time.monotonic() < deadline:
        time.sleep(0.01)
    (child,) = found
    return child


async def is_gone(process: psutil.Process) -> None:
    await asyncio.to_thread(process.wait, 10)


async def test_it_says_which_signatures_are_good() -> None:
    events = [
        *EVENTS[:MANY],
        forged(EVENTS[0]),
        replace(EVENTS[1], headers={**EVENTS[1].headers, "swarm-key": "UNOKEY"}),
        replace(EVENTS[2], headers={**EVENTS[2].headers, SIGNATURE_HEADER: "short"}),
        replace(EVENTS[3], data=EVENTS[3].data + b" "),
        EVENTS[4],
    ]
    async with signature_checks() as checks:
        assert checks is not None
        assert await checks.good(events) == [True] * MANY + [False] * 4 + [True]


async def test_several_requests_stand_at_once() -> None:
    async with signature_checks() as checks:
        assert checks is not None
        asked = [checks.good(EVENTS[n : n + MANY]) for n in range(0, 50, 5)]
        assert await asyncio.gather(*asked) == [[True] * MANY] * 10


async def test_few_are_left_to_who_asks() -> None:
    async with signature_checks() as checks:
        assert checks is not None
        assert await checks.good(EVENTS[: WORTH_ASKING - 1]) == [False] * (WORTH_ASKING - 1)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_where_the_process_is_gone_nothing_is_known_to_be_good(how: signal.Signals) -> None:
    async with signature_checks() as checks:
        assert checks is not None
        process = child_of(os.getpid())
        process.send_signal(how)
        await is_gone(process)
        for _ in range(2):
            assert await checks.good(EVENTS[:MANY]) == [False] * MANY


async def test_an_answer_that_is_not_awaited_is_not_taken_for_the_next() -> None:
    async with signature_checks() as checks:
        assert checks is not None
        given_up = asyncio.create_task(checks.good([forged(each) for each in EVENTS[:100]]))
        await asyncio.sleep(0)  # lets it ask
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        assert await checks.good(EVENTS[:100]) == [False] * 100


async def test_a_silent_process_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bus.signature_checks.DEADLINE_S", 0.1)
    async with signature_checks() as checks:
        assert checks is not None
        process = child_of(os.getpid())
        process.suspend()
        assert await checks.good(EVENTS[:MANY]) == [False] * MANY
        process.resume()
        assert await checks.good(EVENTS[:MANY]) == [False] * MANY


async def test_where_the_process_cannot_be_started_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    async with signature_checks() as checks:
        assert checks is None


@pytest.mark.parametrize("steps", range(6))
async def test_who_is_cancelled_meanwhile_leaves_no_process(steps: int) -> None:
    async def enter() -> None:
        async with signature_checks():
            await asyncio.Event().wait()

    entering = asyncio.create_task(enter())
    for _ in range(steps):
        await asyncio.sleep(0)
    entering.cancel()
    await asyncio.gather(entering, return_exceptions=True)
    assert not children(os.getpid())


async def test_the_process_ends_with_the_block() -> None:
    async with signature_checks():
        process = child_of(os.getpid())
    assert not process.is_running()


async def test_a_process_that_hangs_ends_with_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bus.signature_checks.PATIENCE_S", 0.1)
    async with signature_checks():
        process = child_of(os.getpid())
        process.suspend()
    assert not process.is_running()


async def test_the_process_ends_with_who_started_it() -> None:
    program = (
        "import asyncio\n"
        "from bus.signature_checks import signature_checks\n"
        "async def main():\n"
        "    async with signature_checks():\n"
        "        print('up', flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    assert await parent.stdout.readline() == b"up\n"
    process = child_of(parent.pid)
    parent.kill()
    await parent.wait()
    await is_gone(process)


async def test_a_reader_with_such_a_process_refuses_what_every_reader_refuses(
    broker: Broker, run: str, signatures_checked_here: list[str]
) -> None:
    async with broker.joined("gateway") as gateway, broker.joined("auditor") as reader:
        after = await reader.last_sequence()
        sent = [await gateway.append(submitted(run, f"job {n}")) for n in range(MANY)]
        bad = forged(sent[0].event)
        await gateway.connection.publish(bad.subject, bad.data, bad.headers, timeout_s=5)
        sent += [await gateway.append(submitted(run, f"more {n}")) for n in range(MANY)]
        signatures_checked_here.clear()
        found: list[Received] = []
        async with (
            signature_checks() as checks,
            aclosing(reader.follow_once(ALL_EVENTS, after=after, checks=checks)) as events,
            asyncio.timeout(20),
        ):
            async for received in events:
                found.append(received)
                if received.stream_sequence == sent[-1].stream_sequence:
                    break
    refused = [each for each in found if isinstance(each, RefusedEvent)]
    accepted = [each.event for each in found if isinstance(each, StoredEvent)]
    assert [each.error.code for each in refused] == ["bad_signature"]
    assert [each for each in accepted if each.run == run] == [each.event for each in sent]
    assert len(signatures_checked_here) < len(sent)
    assert bad.id in signatures_checked_here
