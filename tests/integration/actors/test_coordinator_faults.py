"""A fault of the coordinator's own that one run meets: every other run goes on."""

import pytest

from actors import coordinator, open_run
from actors.command import Command, draft_of
from actors.record import Fact, RunState
from actors.run_state import evolve
from bus.event import Draft
from bus.payloads import RunCompleted, StallNoticed, StepAssigned, StepClaimed
from tests.broker import Broker
from tests.integration.actors.assigning import payloads, said
from tests.integration.actors.test_coordinator import coordinating, submitted, until, work_off


async def test_a_fault_of_ours_that_one_run_meets_holds_up_no_other(
    broker: Broker, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt, after = f"{run}s", f"{run}a"

    def faulty(state: RunState, fact: Fact) -> RunState:
        if fact.run == spoilt and isinstance(fact.payload, StepClaimed):
            raise ZeroDivisionError
        return evolve(state, fact)

    async with broker.joined("gateway") as gateway, broker.joined("coder") as coder:
        with monkeypatch.context() as patched:
            patched.setattr(open_run, "evolve", faulty)
            async with coordinating(broker):
                await gateway.append(submitted(spoilt))
                await work_off(coder, await until(gateway, spoilt, StepAssigned))
                notice = (await until(gateway, spoilt, StallNoticed)).payload()
                assert isinstance(notice, StallNoticed)
                assert (notice.code, "ZeroDivisionError" in notice.waits_for) == ("defect", True)
                await gateway.append(submitted(run))
                await work_off(coder, await until(gateway, run, StepAssigned))
                await until(gateway, run, RunCompleted)
            async with coordinating(broker, "coordinator-2"):  # which has read of it already
                await gateway.append(submitted(after))
                await until(gateway, after, StepAssigned)
        assert len(payloads(await said(gateway, spoilt), StallNoticed)) == 1
        async with coordinating(broker, "coordinator-3"):
            await until(gateway, spoilt, RunCompleted)


async def test_a_fault_of_ours_in_a_decision_holds_up_no_other_run(
    broker: Broker, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt = f"{run}s"

    def faulty(command: Command, state: RunState) -> Draft:
        if state.run == spoilt:
            raise ZeroDivisionError
        return draft_of(command, state)

    async with broker.joined("gateway") as gateway:
        with monkeypatch.context() as patched:
            patched.setattr(coordinator, "draft_of", faulty)
            async with coordinating(broker):
                await gateway.append(submitted(spoilt))
                assert (await until(gateway, spoilt, StallNoticed)).payload()
                await gateway.append(submitted(run))
                await until(gateway, run, StepAssigned)
        async with coordinating(broker, "coordinator-2"):
            await until(gateway, spoilt, StepAssigned)
