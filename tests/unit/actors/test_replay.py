"""Replaying a run: equal, or the first event that differs."""

from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.errors import ModelAsked
from actors.model import RaisingModel
from actors.replay import first_difference_between, replay
from actors.rework import rework
from actors.roles import role_spec
from actors.step_agent import ask_model
from actors.workflow import LoopSpec, StepSpec, WorkflowSpec
from bus.event import StoredEvent
from bus.memory_payloads import TAKEN
from bus.payloads import (
    CancelRequested,
    PauseRequested,
    ResumeRequested,
    RunCompleted,
    StallNoticed,
    StepAssigned,
    StepCompleted,
)
from tests.recording import Recording, forged, refusal_of

WORDS = WorkflowSpec(
    name="words",
    nodes=(
        StepSpec(name="specification", role="specifier", max_attempts=9),
        StepSpec(name="research", role="researcher", max_attempts=9),
        LoopSpec(
            name="refinement",
            steps=(
                StepSpec(name="code", role="coder", inputs=("specification", "verdict")),
                StepSpec(name="verdict", role="judge", inputs=("code",)),
            ),
            verdict_step="verdict",
            limit=2,
        ),
        StepSpec(name="completion", role="planner", inputs=("research", "code")),
    ),
)


def equal(recording: Recording) -> None:
    made = replay(recording.read())
    assert made.is_equal, made.divergence


def eventful() -> Recording:
    """Retries, a superseded claim, a refused result, two rounds of a loop, two coordinators."""
    recording = Recording(WORDS)
    recording.submit()
    recording.settle(most=1)
    recording.settle(by="coordinator-2")
    specification, research = recording.open()
    recording.fail(recording.claim(specification))
    recording.wait()
    recording.settle(by="coordinator-2")
    dead = recording.claim(research)
    alive = recording.claim(research, epoch=2, agent=2)
    recording.answer(alive)
    recording.answer(dead)
    recording.settle(most=1)
    recording.settle()
    while not any(_is(each, "verdict") for each in recording.open()):
        recording.do(recording.open()[0])
    recording.do(recording.open()[0], accepted=False)
    return recording.to_end()


def _is(stored: StoredEvent, step: str) -> bool:
    payload = stored.payload()
    return isinstance(payload, StepAssigned) and payload.step == step


def test_a_run_with_retries_a_loop_and_refused_results_is_equal() -> None:
    recording = eventful()
    made = replay(recording.read())
    assert made.is_equal, made.divergence
    assert made.status == "completed"
    types = [each.event.type for each in recording.events]
    assert types.count("swarm.result.refused.v1") == 1
    assert types.count("swarm.step.failed.v1") == 1
    assert made.count("answer") == len(recording.state.results) == 7
    assert made.count("decision") == sum(
        each.event.role == "coordinator" for each in recording.events
    )


def test_a_run_that_is_still_going_on_is_equal() -> None:
    recording = eventful()
    for end in range(len(recording.events)):
        made = replay(recording.read(recording.events[:end]))
        assert made.is_equal, made.divergence


def test_a_failed_run_that_was_retried_is_equal() -> None:
    recording = Recording(WorkflowSpec(name="w", nodes=(StepSpec(name="s", role="coder"),)))
    recording.submit()
    recording.settle()
    for _ in range(3):
        recording.fail(recording.claim(recording.open()[0]))
        recording.wait()
        recording.settle()
    failed = recording.state.status
    assert failed == "failed"
    recording.retry()
    recording.to_end()
    assert recording.state.status == "completed"
    equal(recording)


def test_a_run_that_was_paused_and_cancelled_is_equal() -> None:
    recording = Recording(WORDS)
    recording.submit()
    recording.settle()
    recording.tell("gateway-1", PauseRequested(requested_by="ada"))
    recording.answer(recording.claim(recording.open()[0]))
    assert recording.settle() == 0
    recording.tell("gateway-1", ResumeRequested(requested_by="ada"))
    recording.settle()
    recording.tell("gateway-1", CancelRequested(requested_by="ada"))
    recording.settle()
    assert recording.state.status == "cancelled"
    equal(recording)


def test_a_run_past_its_deadline_is_equal() -> None:
    recording = Recording(WORDS)
    recording.submit(deadline_s=5.0)
    recording.settle()
    recording.now += timedelta(seconds=6)
    recording.settle()
    assert recording.state.status == "failed"
    equal(recording)


def test_a_decision_just_before_the_deadline_may_be_signed_just_after_it() -> None:
    recording = Recording(WORDS)
    recording.submit(deadline_s=5.0)
    deadline = recording.state.deadline_at
    assert deadline is not None
    signed = deadline + timedelta(milliseconds=5)
    recording.sender("coordinator-1")._clock = lambda: signed
    recording.settle(most=2)
    assert recording.events[-1].event.time > deadline
    equal(recording)


def test_a_notice_of_a_stall_is_no_decision() -> None:
    recording = Recording(WORDS)
    recording.submit()
    recording.settle()
    notice = StallNoticed(code="no_agent", waits_for="an agent", since=recording.now)
    recording.tell("coordinator-1", notice)
    recording.to_end()
    equal(recording)


def test_a_decision_that_nothing_led_to_is_named() -> None:
    recording = Recording(WORDS)
    recording.submit()
    recording.settle()
    early = recording.events[-1]
    assert isinstance(payload := early.payload(), StepAssigned)
    log = [
        each
        for each in recording.resigned(early, {"step": "completion"}, rechain=True)
        if each.event.type != "swarm.step.claimed.v1"
    ]
    made = replay(recording.read(log))
    assert made.divergence is not None
    assert made.divergence.event == early.event.id
    assert "completion" in made.divergence.recorded
    assert payload.step in made.divergence.remade


def test_an_answer_that_is_missing_shows_in_the_first_decision_that_read_it() -> None:
    recording = eventful()
    accepted = recording.state.results["specification", 1, 0].id
    without = [each for each in recording.events if each.event.id != accepted]
    made = replay(recording.read(without))
    assert made.divergence is not None
    assert made.divergence.event == recording.find("step.assigned", "code").event.id
    assert made.divergence.remade == "nothing"


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_one_changed_byte_of_any_event_names_that_event(data: st.DataObject) -> None:
    recording = EVENTFUL
    stored = data.draw(st.sampled_from(recording.events))
    at = data.draw(st.integers(0, len(stored.event.data) - 1))
    made = replay(recording.read(recording.altered(stored, at)))
    assert made.divergence is not None
    assert made.divergence.event == stored.event.id
    assert made.divergence.stream_sequence == stored.stream_sequence
    assert made.divergence.code == "unverified"


EVENTFUL = eventful()


def _changed_answer(stored: StoredEvent) -> dict[str, object]:
    """The answer with one letter changed."""
    payload = stored.payload()
    assert isinstance(payload, StepCompleted)
    answer = dict(payload.answer)
    name = next(name for name, value in answer.items() if not isinstance(value, bool))
    value = answer[name]
    if isinstance(value, str):
        return {**answer, name: "X" + value[1:]}
    assert isinstance(value, list)
    return {**answer, name: ["X" + str(value[0])[1:], *value[1:]]}


def test_a_changed_answer_under_a_good_signature_is_denied_by_its_senders_next_event() -> None:
    recording = EVENTFUL
    answers = [
        each
        for each in recording.events
        if isinstance(each.payload(), StepCompleted)
        and any(
            later.event.key == each.event.key and later.event.sequence > each.event.sequence
            for later in recording.events
        )
    ]
    assert answers
    for stored in answers:
        log = recording.resigned(stored, {"answer": _changed_answer(stored)}, rechain=False)
        made = replay(recording.read(log))
        assert made.divergence is not None
        assert made.divergence.code == "changed"
        assert made.divergence.event == stored.event.id


@pytest.mark.parametrize(
    ("step", "iteration", "kind", "depends", "round_"),
    [
        ("specification", 1, "step.assigned", "code", 1),
        ("research", 1, "step.assigned", "completion", 1),
        ("code", 1, "step.assigned", "verdict", 1),
        ("verdict", 1, "step.assigned", "code", 2),
        ("code", 2, "step.assigned", "verdict", 2),
        ("completion", 1, "run.completed", "", 1),
    ],
)
def test_a_changed_answer_in_a_chain_signed_anew_names_the_first_decision_that_read_it(
    step: str, iteration: int, kind: str, depends: str, round_: int
) -> None:
    recording = EVENTFUL
    accepted = recording.state.results[step, iteration, 0].id
    stored = next(each for each in recording.events if each.event.id == accepted)
    log = recording.resigned(stored, {"answer": _changed_answer(stored)}, rechain=True)
    made = replay(recording.read(log))
    assert made.divergence is not None
    assert made.divergence.code == "decision"
    assert made.divergence.event == recording.find(kind, depends, round_).event.id
    assert made.divergence.recorded != made.divergence.remade
    untouched = replay(recording.read())
    assert first_difference_between(untouched, made) == stored.event.id


def test_the_digest_of_a_replay_is_that_of_the_run_and_of_nothing_else() -> None:
    recording = EVENTFUL
    assert replay(recording.read()) == replay(recording.read())
    assert first_difference_between(replay(recording.read()), replay(recording.read())) is None
    cut = replay(recording.read(recording.events[:-1]))
    assert cut.digest != replay(recording.read()).digest
    assert first_difference_between(cut, replay(recording.read())) == recording.events[-1].event.id


def test_what_was_refused_when_it_was_stored_is_passed_over() -> None:
    recording = Recording(WORDS)
    recording.submit()
    recording.settle()
    refused = forged(recording)
    log = [*recording.read(), refused]
    made = replay(log)
    assert made.divergence is not None
    assert made.divergence.stream_sequence == refused.stream_sequence
    record = refusal_of(refused, sha256(refused.data).hexdigest())
    recording.events.append(
        replace(recording.tell("auditor-1", record), stream_sequence=refused.stream_sequence + 1)
    )
    recording.events.pop(-2)
    made = replay([*recording.read()[:-1], refused, recording.read()[-1]])
    assert made.is_equal, made.divergence
    assert made.count("refused") == 1


def test_a_record_of_another_refusal_explains_nothing() -> None:
    recording = Recording(WORDS)
    recording.submit()
    refused = forged(recording)
    recording.tell("auditor-1", refusal_of(refused, sha256(b"other").hexdigest()))
    assert not replay([*recording.read(), refused]).is_equal


def test_a_payload_written_before_a_field_was_added_is_equal() -> None:
    recording = Recording(WORDS)
    recording.submit()
    recording.settle()
    assigned = recording.events[-1]
    old = {
        name: value
        for name, value in StepAssigned.model_validate_json(assigned.event.data)
        if name not in ("each", "instructions", "answer_schema", "item")
    }
    data = StepAssigned(**old).model_dump_json(include=set(old)).encode()
    event = recording._signed(replace(assigned.event, data=data))
    made = replay(recording.read([*recording.events[:-1], replace(assigned, event=event)]))
    assert made.is_equal, made.divergence


@pytest.mark.parametrize("name", TAKEN)
def test_a_run_that_recalled_an_item_of_a_name_that_no_new_one_gets_is_read_and_equal(
    name: str,
) -> None:
    recording = Recording(WORDS)
    recording.submit()
    recording.settle()
    answered = recording.answer(recording.claim(recording.open()[0]))
    recalled = {"namespace": "shared/notes", "item": name, "version": 1}
    recording.events = recording.resigned(answered, {"recalled": [recalled]}, rechain=True)
    recording.to_end()
    assert all(isinstance(each, StoredEvent) for each in recording.read())
    completed = recording.find("run.completed").payload()
    assert isinstance(completed, RunCompleted)
    assert [each.model_dump() for each in completed.recalled] == [recalled]
    equal(recording)


async def test_a_model_that_may_not_be_asked_raises() -> None:
    assigned = EVENTFUL.find("step.assigned", "code").payload()
    assert isinstance(assigned, StepAssigned)
    with pytest.raises(ModelAsked):
        await ask_model(RaisingModel(), role_spec("coder", "code"), "r1", assigned)


def test_the_work_of_an_answer_is_done_again_with_the_agents_own_question() -> None:
    assigned = EVENTFUL.find("step.assigned", "code").payload()
    completed = EVENTFUL.find("step.completed", "code").payload()
    assert isinstance(assigned, StepAssigned)
    assert isinstance(completed, StepCompleted)
    asked = rework("r1", assigned, completed)
    assert asked is not None
    other = assigned.model_copy(update={"objective": "Design something else"})
    assert rework("r1", other, completed) != asked


def test_nothing_of_a_run_is_no_run() -> None:
    made = replay([])
    assert made.is_equal
    assert made.steps == ()
