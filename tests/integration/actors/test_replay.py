"""Replays and forks of runs that really happened, on a real broker."""

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime

import httpx
import pytest

from actors.errors import AnswerRejected, CannotReplay
from actors.fact import fact_of
from actors.member import Domain
from actors.model import Completion, Message, ModelRequest, RaisingModel
from actors.record import RunState
from actors.replay import first_difference_between, replay
from actors.run_state import fold
from actors.team import AGENTS
from bus.event import Draft, Event, StoredEvent, derive_id
from bus.log import EventLog
from bus.payloads import IdentityIssued, RunCompleted, StepAssigned, StepCompleted, Usage
from bus.received import Received
from bus.subjects import run_filter
from bus.trust import verify
from cluster.settings import Settings
from serve.app import create_app
from swarm.cli.reading import observing, read_run, read_runs
from swarm.client import AsyncSwarm
from swarm.errors import NotFound, Refused
from swarm.http import Call
from tests.broker import Broker
from tests.swarming import ScriptedAnswers, agent, coordinator, submission, team, until_end
from tests.unit.serve.fakes import BASE_URL, PASSWORD, Fakes


class StrictJudge(ScriptedAnswers):
    """Scripted, but the first verdict is a no."""

    async def complete(self, request: ModelRequest) -> Completion:
        completion = await super().complete(request)
        if '"accepted":true' in completion.text.replace(" ", "") and not self.refused:
            self.refused = True
            answer = {**json.loads(completion.text), "accepted": False}
            return replace(completion, text=json.dumps(answer))
        return completion

    refused = False


async def read(log: EventLog, run: str) -> list[Received]:
    async with aclosing(log.read(run_filter(run))) as events:
        return [received async for received in events]


def answered(events: Sequence[Received], step: str) -> StoredEvent:
    """The first accepted answer of a step."""
    stored = [each for each in events if isinstance(each, StoredEvent)]
    state = fold(RunState(), map(fact_of, stored))
    return next(each for each in stored if each.event.id == state.results[step, 1, 0].id)


async def say_without_claim(broker: Broker, run: str, assigned: StoredEvent) -> None:
    """An agent hands in an answer that it has no claim for."""
    work = assigned.payload()
    assert isinstance(work, StepAssigned)
    async with broker.joined(work.role, f"{work.role}-9") as log:
        payload = StepCompleted(
            step=work.step,
            iteration=1,
            attempt=1,
            epoch=7,
            answer={"x": 1},
            model="none",
            usage=Usage(prompt_tokens=0, completion_tokens=0),
            duration_ms=0,
        )
        await log.append(
            Draft(
                run=run,
                payload=payload,
                id=derive_id("step.completed", run, "forged"),
                suffix=(work.role,),
                cause=assigned.event.id,
            )
        )


async def test_a_run_with_retries_a_loop_a_refusal_and_two_killed_coordinators_is_equal(
    broker: Broker, run: str
) -> None:
    rejected: list[str] = []
    third, go_on = asyncio.Event(), asyncio.Event()

    async def gate(messages: Sequence[Message]) -> None:
        if len(rejected) < 2:
            rejected.append(messages[0].content)
            raise AnswerRejected("not JSON")
        if len(model.calls) >= 5 and not go_on.is_set():
            third.set()
            await go_on.wait()

    model = StrictJudge(gate)
    async with broker.joined("gateway") as gateway:
        async with team(broker, model), coordinator(broker, "coordinator-2"):
            await gateway.append(submission(run))
            async with asyncio.timeout(60):
                await third.wait()
            events = await read(gateway, run)
            assigned = next(
                each
                for each in events
                if isinstance(each, StoredEvent) and isinstance(each.payload(), StepAssigned)
            )
            await say_without_claim(broker, run, assigned)
        go_on.set()
        async with team(broker, model):
            await until_end(gateway, run)
            async with asyncio.timeout(60):
                while True:
                    events = await read(gateway, run)
                    made = replay(events)
                    kinds = Counter(e.event.type for e in events if isinstance(e, StoredEvent))
                    if kinds["swarm.result.refused.v1"]:
                        break
                    await asyncio.sleep(0.05)
    assert made.is_equal, made.divergence
    assert made.status == "completed"
    assert kinds["swarm.step.failed.v1"] == 2
    assert any(
        isinstance(e, StoredEvent)
        and isinstance(p := e.payload(), StepCompleted)
        and p.iteration == 2
        for e in events
    )
    assert made.count("decision") > 10
    assert made.count("answer") == len([step for step in made.steps if step.asked])


async def test_one_changed_byte_of_an_answer_names_its_event(broker: Broker, run: str) -> None:
    async with team(broker, ScriptedAnswers()), broker.joined("gateway") as gateway:
        await gateway.append(submission(run))
        await until_end(gateway, run)
        events = await read(gateway, run)
        whole = replay(events)
        assert whole.is_equal, whole.divergence
        for step in ("specification", "code", "completion"):
            stored = answered(events, step)
            data = bytearray(stored.event.data)
            place = data.index(b'"sealed":"') + 20
            data[place] ^= 1
            altered = replace(stored, event=replace(stored.event, data=bytes(data)))
            log = [
                await gateway._verifier.check(altered) if each is stored else each
                for each in events
            ]
            made = replay(log)
            assert made.divergence is not None
            assert made.divergence.event == stored.event.id
            assert made.divergence.stream_sequence == stored.stream_sequence


async def test_a_whole_team_without_a_model_has_nothing_to_ask_of_a_run_that_is_over(
    broker: Broker, run: str
) -> None:
    async with broker.joined("gateway") as gateway:
        async with team(broker, ScriptedAnswers()):
            await gateway.append(submission(run))
            await until_end(gateway, run)
        before = await read(gateway, run)
        raising = RaisingModel()
        async with coordinator(broker, "coordinator-3"):
            for role in AGENTS:
                async with agent(broker, role, f"{role}-2", raising):  # type: ignore[arg-type]
                    pass
        assert await read(gateway, run) == before
        assert first_difference_between(replay(before), replay(before)) is None


async def connected(log: EventLog) -> AsyncSwarm:
    """The SDK, on a gateway over a real log, as an admin: the runs are nobody's."""
    fakes = Fakes()
    parts = replace(fakes.parts(), log=log)
    return await AsyncSwarm.connect(
        BASE_URL,
        username="ada",
        password=PASSWORD,
        transport=httpx.ASGITransport(create_app(parts)),
    )


async def test_a_fork_shares_answers_and_asks_the_model_for_the_rest_only(
    broker: Broker, run: str
) -> None:
    model = ScriptedAnswers()
    async with (
        team(broker, model),
        broker.joined("gateway") as gateway,
        await connected(gateway) as swarm,
    ):
        await gateway.append(submission(run))
        await until_end(gateway, run)
        asked = len(model.calls)
        events = await read(gateway, run)
        at = answered(events, "architecture")
        forked = await swarm.run(run).fork(
            at.event.id,
            set={"specification.summary": "Design a queue and nothing else at all."},
            instructions={"code": "Write Go."},
        )
        assert forked.forked is not None
        shared = {each.step: each for each in forked.forked.shared}
        assert set(shared) == {"specification", "research", "pseudocode", "architecture"}
        assert shared["specification"].changed
        assert shared["architecture"].event == at.event.id
        ended = await until_end(gateway, forked.id)
        assert isinstance(ended[-1].payload(), RunCompleted)
        new = model.calls[asked:]
        steps = [p.step for e in ended if isinstance(p := e.payload(), StepAssigned)]
        assert not set(shared) & set(steps)
        assert len(new) == len(steps) == asked - len(shared)
        code = next(p for e in ended if isinstance(p := e.payload(), StepAssigned))
        assert code.inputs["specification"]["summary"].startswith("Design a queue")  # type: ignore[union-attr]
        assert any("Write Go." in message for message in new)
        made = replay(await read(gateway, forked.id))
        assert made.is_equal, made.divergence
        status = await forked.status()
        assert status.parent is not None
        assert (status.parent.run, status.parent.at) == (run, at.event.id)


async def test_a_fork_that_makes_no_sense_is_refused(broker: Broker, run: str) -> None:
    async with (
        team(broker, ScriptedAnswers()),
        broker.joined("gateway") as gateway,
        await connected(gateway) as swarm,
    ):
        await gateway.append(submission(run))
        other = await gateway.append(submission(f"{run}x"))
        await until_end(gateway, run)
        parent = swarm.run(run)
        first = str((await read(gateway, run))[0].stream_sequence)
        with pytest.raises(NotFound):
            await swarm.run("nonsense").fork(first)
        with pytest.raises(Refused, match="no such event"):
            await parent.fork(other.event.id)
        with pytest.raises(Refused, match="no step"):
            await parent.fork(first, instructions={"nonsense": "x"})
        last = str((await read(gateway, run))[-1].stream_sequence)
        with pytest.raises(Refused, match="does not fit"):
            await parent.fork(last, set={"specification.summary": 7})
        await until_end(gateway, f"{run}x")


async def test_the_command_line_reads_the_log_as_an_observer_and_verifies_it(
    broker: Broker, run: str
) -> None:
    domain = Domain(
        nats_url=broker.url,
        operator_public_key=broker.authority.operator_public_key,
        account_jwt=broker.authority.account_jwt,
    )
    async with team(broker, ScriptedAnswers()), broker.joined("gateway") as gateway:
        await gateway.append(submission(run))
        await gateway.append(submission(f"{run}x"))
        await until_end(gateway, run)
        async with observing(domain, broker.authority, broker.keys) as log:
            assert await read_runs(log) == [run, f"{run}x"]
            events = await read_run(log, Settings(), run)
            assert events == await read(gateway, run)
            assert replay(events).is_equal
            for nothing in ("swarm", "a.b", ">"):
                with pytest.raises(NotFound):
                    await read_run(log, Settings(), nothing)
        await until_end(gateway, f"{run}x")


async def test_what_is_sealed_for_others_or_erased_is_not_replayed(
    broker: Broker, run: str
) -> None:
    async with team(broker, ScriptedAnswers()), broker.joined("gateway") as gateway:
        await gateway.append(submission(run))
        await until_end(gateway, run)
        events = await read(gateway, run)
    async with broker.joined("auditor") as auditor:
        with pytest.raises(CannotReplay, match="no key"):
            replay(await read(auditor, run))
    first = events[0]
    assert isinstance(first, StoredEvent)
    erased = replace(first, event=replace(first.event, opened=None, is_erased=True))
    with pytest.raises(CannotReplay, match="erased"):
        replay([erased, *events[1:]])


async def test_the_raw_log_of_the_gateway_verifies_by_itself(broker: Broker, run: str) -> None:
    async with (
        team(broker, ScriptedAnswers()),
        broker.joined("gateway") as gateway,
        await connected(gateway) as swarm,
    ):
        await gateway.append(submission(run))
        await until_end(gateway, run)
        text = await swarm._gateway.call(Call(method="GET", path=f"/v1/runs/{run}/log"))
    trust, verified = broker.trust(), 0
    for line in map(json.loads, text.splitlines()):
        event = Event.parse(line["subject"], line["headers"], base64.b64decode(line["data"]))
        payload = event.payload()
        if isinstance(payload, IdentityIssued):
            trust.admit(payload.credential, line["stream_sequence"])
        verify(
            event,
            trust.find(event.key),
            broker.policy,
            stream_sequence=line["stream_sequence"],
            stored_at=datetime.fromisoformat(line["stored_at"]),
        )
        verified += event.run == run
    assert verified > 20
