"""Event streams that are cut anywhere: nothing is missed and nothing comes twice."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.serve.fakes import RESEARCH, Fakes, complete, do_step, fail, submit
from tests.unit.swarm.gateways import BadLine, connected

DEEDS = st.lists(st.sampled_from(["mine", "other", "forged", "foreign forgery"]), max_size=8)
CUTS = st.lists(st.integers(0, 6_000), max_size=6)


async def a_log(deeds: list[str], *, ends_well: bool) -> Fakes:
    """A run among another one and forgeries, ended; and something after its end."""
    fakes = Fakes()
    await submit(fakes.log, "r2")
    await submit(fakes.log, "r1")
    for number, deed in enumerate(deeds):
        step = f"research{number}"
        if deed in ("mine", "other"):
            run = "r1" if deed == "mine" else "r2"
            await do_step(fakes.log, run, step=step, role="researcher", answer=RESEARCH)
        else:
            await fakes.log.append_refused(
                "r1" if deed == "forged" else "r2", "swarm.run.failed.v1"
            )
    await (complete if ends_well else fail)(fakes.log, "r1")
    await fakes.log.append_refused("r1", "swarm.run.completed.v1")
    return fakes


def expected(fakes: Fakes) -> list[int]:
    """The places of r1's events in the log up to its end; its last event is a forgery."""
    mine = [
        received.stream_sequence
        for received in fakes.log.stored
        if ".r1." in (received.event.subject if hasattr(received, "event") else received.subject)
    ]
    return mine[:-1]


@settings(max_examples=60, deadline=None)
@given(deeds=DEEDS, cuts=CUTS, piece=st.integers(1, 900), ends_well=st.booleans())
def test_no_gap_and_no_repeat_wherever_the_line_is_cut(
    deeds: list[str], cuts: list[int], piece: int, *, ends_well: bool
) -> None:
    async def follow() -> None:
        fakes = await a_log(deeds, ends_well=ends_well)
        line = BadLine(fakes, cuts, piece=piece)
        async with await connected(fakes, line) as swarm:
            seen = [event.stream_sequence async for event in swarm.run("r1").events()]
        assert seen == expected(fakes)
        assert line.streams <= len(cuts) + 1

    asyncio.run(follow())


@settings(max_examples=30, deadline=None)
@given(deeds=DEEDS, cuts=CUTS, data=st.data())
def test_a_reader_that_starts_anywhere_gets_the_rest(
    deeds: list[str], cuts: list[int], data: st.DataObject
) -> None:
    async def follow() -> None:
        fakes = await a_log(deeds, ends_well=True)
        after = data.draw(st.integers(0, len(fakes.log.stored)))
        async with await connected(fakes, BadLine(fakes, cuts)) as swarm:
            seen = [event.stream_sequence async for event in swarm.run("r1").events(after=after)]
        assert seen == [place for place in expected(fakes) if place > after]

    asyncio.run(follow())


def test_the_property_has_something_to_hold_on_to() -> None:
    fakes = asyncio.run(a_log(["mine", "forged", "other"], ends_well=True))
    assert expected(fakes) == [2, 3, 4, 5, 6, 10]
