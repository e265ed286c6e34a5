"""The SDK without asyncio."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from serve.app import create_app
from swarm import Swarm
from swarm.bridge import CLOSE_TIMEOUT_S, Bridge
from swarm.errors import NotAuthenticated, RunNotFinished, SwarmClosed, WaitTimeout
from tests.unit.serve.fakes import BASE_URL, PASSWORD, Fakes, complete, quick, submit

HELLO = [{"role": "user", "content": "hello there"}]


def connect(fakes: Fakes, password: str = PASSWORD) -> Swarm:
    app = create_app(fakes.parts(quick(stream_life_s=0.02)))
    return Swarm.connect(
        BASE_URL, username="uma", password=password, transport=httpx.ASGITransport(app)
    )


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "swarm-sdk"]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert threads() == []


def a_run(fakes: Fakes) -> None:
    asyncio.run(submit(fakes.log))


def test_a_run_goes_from_the_objective_to_the_document() -> None:
    fakes = Fakes()
    with connect(fakes) as swarm:
        assert repr(swarm) == f"Swarm('{BASE_URL}')"
        run = swarm.submit("Write a parser.")
        assert run.status.status == "running"
        with pytest.raises(RunNotFinished):
            _ = run.result
        with pytest.raises(WaitTimeout):
            run.wait(timeout_s=0.01)
        swarm._bridge.call(complete(fakes.log, run.id, "# A parser"))
        assert run.wait().status == "completed"
        assert run.result == "# A parser"
        assert [event.stream_sequence for event in run.events()] == [1, 2]
        assert [event.stream_sequence for event in swarm.run(run.id).events(after=1)] == [2]
        assert run.audit().events == swarm.audit(run.id).events == 0
        assert repr(run) == f"Run({run.id!r})"


def test_the_model_answers_whole_and_in_pieces() -> None:
    with connect(Fakes()) as swarm:
        assert swarm.chat(HELLO).text == "hello there"
        assert list(swarm.chat(HELLO, stream=True)) == ["hello", "there"]


async def test_it_works_where_a_loop_is_running_already() -> None:
    with connect(Fakes()) as swarm:
        assert swarm.chat(HELLO).text == "hello there"


def test_threads_may_share_it() -> None:
    with connect(Fakes()) as swarm, ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: swarm.submit("x").id, range(20)))
    assert len(set(runs)) == 20


def test_a_connection_that_fails_leaves_no_thread() -> None:
    with pytest.raises(NotAuthenticated):
        connect(Fakes(), "wrong")
    assert threads() == []


def test_what_is_closed_says_so_and_may_be_closed_again() -> None:
    swarm = connect(Fakes())
    run = swarm.submit("x")
    swarm.close()
    swarm.close()
    with pytest.raises(SwarmClosed):
        _ = run.status
    with pytest.raises(SwarmClosed):
        swarm.submit("x")
    with pytest.raises(SwarmClosed):
        next(run.events())


async def forever() -> None:
    await asyncio.Event().wait()


def test_closing_ends_a_call_that_another_thread_waits_for() -> None:
    bridge = Bridge()
    begun = threading.Event()

    async def announced() -> None:
        begun.set()
        await forever()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(bridge.call, announced())
        assert begun.wait(5.0)
        bridge.close()
        with pytest.raises(SwarmClosed):
            waiting.result(5.0)


def test_an_iterator_that_is_left_lets_go() -> None:
    bridge = Bridge()
    let_go = threading.Event()

    async def numbers() -> AsyncGenerator[int, None]:
        try:
            yield 1
            await forever()
        finally:
            let_go.set()

    items = numbers()  # kept, or the garbage collector would close it in any case
    iterator = bridge.iterate(items)
    assert next(iterator) == 1
    iterator.close()
    assert let_go.wait(5.0)
    bridge.close()


def test_an_error_comes_over_with_its_own_type() -> None:
    bridge = Bridge()

    async def wrong() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        bridge.call(wrong())
    bridge.close()


def test_closing_is_quick() -> None:
    bridge = Bridge()
    began = time.monotonic()
    bridge.close()
    assert time.monotonic() - began < CLOSE_TIMEOUT_S
