"""A run of which nobody can read what was said: it stays as it ended, and goes no further."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from actors.command import FailRun, draft_of
from actors.decide import decide
from actors.fact import Fact, fact_of
from actors.open_run import OpenRun
from actors.record import RunState
from actors.replay import replay
from actors.run_state import fold
from actors.sparc import SPARC
from actors.workflow import StepSpec, WorkflowSpec
from bus.event import StoredEvent
from bus.payloads import ApprovalDenied, CancelRequested, RunCancelled, RunFailed
from bus.sealing import sealed_body
from tests.recording import Recording

APPROVED = WorkflowSpec(
    name="approved", nodes=(StepSpec(name="plan", role="planner", approval=True),)
)


def withheld(stored: StoredEvent) -> StoredEvent:
    """As somebody without a key reads it."""
    event = stored.event
    payload = event.payload()
    if not payload.PERSONAL:
        return stored
    erased = type(payload).model_validate({**payload.model_dump(), **payload.PERSONAL})
    assert erased.PERSONAL
    sealed = replace(
        event,
        headers={**event.headers, "ce-sealedfor": "ann"},
        data=sealed_body(payload, None, binding=b""),
        is_erased=True,
    )
    assert sealed.payload() == erased
    return replace(stored, event=sealed)


def folded(events: Sequence[StoredEvent]) -> RunState:
    return fold(RunState(), (fact_of(withheld(each)) for each in events))


def test_a_run_that_has_ended_stays_as_it_ended_and_nothing_is_said_of_it() -> None:
    recording = Recording()
    recording.submit()
    recording.to_end()
    whole, erased = recording.state, folded(recording.events)
    assert whole.status == erased.status == "completed"
    assert erased.results.keys() == whole.results.keys()
    assert erased.usage == whole.usage
    assert erased.refusals == ()
    assert decide(erased, recording.now) == ()
    run = OpenRun()
    for each in recording.events:
        run.take(withheld(each))
    assert run.is_over


def test_a_refusal_that_was_recorded_is_not_said_again() -> None:
    recording = Recording()
    recording.submit()
    recording.settle()
    first = recording.open()[0]
    recording.answer(recording.claim(first), {"nonsense": True})
    recording.settle()
    recording.wait()
    recording.to_end()
    assert recording.state.status == "completed"
    assert recording.find("result.refused")
    assert decide(folded(recording.events), recording.now) == ()


def test_a_run_of_which_nobody_can_read_what_was_asked_fails() -> None:
    recording = Recording()
    recording.submit()
    state = folded(recording.events)
    (command,) = decide(state, recording.now)
    assert isinstance(command, FailRun)
    assert command.code == "unreadable"


@pytest.mark.parametrize("seals", [True, False])
def test_the_end_that_quotes_somebody_is_sealed_for_that_person(*, seals: bool) -> None:
    recording = Recording()
    recording.submit()
    recording.tell("gateway-1", CancelRequested(requested_by="Bob", reason="a whim"))
    facts = [
        _for(fact_of(each), "ann" if n == 0 else "bob") for n, each in enumerate(recording.events)
    ]
    state = fold(RunState(), facts if seals else map(fact_of, recording.events))
    (command,) = decide(state, recording.now)
    draft = draft_of(command, state)
    assert isinstance(draft.payload, RunCancelled)
    assert draft.about == ("bob" if seals else None)


def test_any_other_end_is_sealed_for_whom_the_run_is_about() -> None:
    recording = Recording()
    recording.submit(deadline_s=1.0)
    recording.settle()
    recording.wait()
    state = fold(RunState(), (_for(fact_of(each), "ann") for each in recording.events))
    drafts = [draft_of(command, state) for command in decide(state, recording.now)]
    assert [type(draft.payload) for draft in drafts] == [RunFailed]
    assert drafts[0].about == "ann"


def _for(fact: Fact, subject: str) -> Fact:
    return replace(fact, sealed_for=subject)


def test_an_answer_that_its_sender_withholds_does_not_pass_as_one() -> None:
    """Who says that an answer is sealed, and seals nothing, has not given it."""
    recording = Recording()
    recording.submit()
    recording.settle()
    claim = recording.claim(recording.open()[0])
    answer = recording.answer(claim, {"nonsense": True})
    facts = [fact_of(each) for each in recording.events[:-1]]
    state = fold(RunState(), [*facts, fact_of(withheld(answer))])
    assert not state.is_unreadable
    assert state.results == {}
    assert [refusal.id for refusal in state.refusals] == [answer.event.id]


@pytest.mark.parametrize("denied", [True, False])
def test_a_run_is_replayed_without_the_words_of_who_ended_it(*, denied: bool) -> None:
    recording = Recording(APPROVED if denied else SPARC)
    recording.submit()
    recording.settle()
    words = {"requested_by": "Bob", "reason": "a whim"}
    if denied:
        asked = recording.find("approval.requested")
        recording.tell("gateway-1", ApprovalDenied(approval=asked.event.id, **words))
    else:
        recording.tell("gateway-1", CancelRequested(**words))
    said = len(recording.events) - 1
    recording.settle()
    assert recording.state.ended is not None
    log = recording.read()
    forgotten = [
        withheld(each)
        if n >= said and isinstance(each, StoredEvent) and each.payload().PERSONAL
        else each
        for n, each in enumerate(log)
    ]
    assert forgotten != log
    made = replay(forgotten)
    assert made.is_equal, made.divergence
