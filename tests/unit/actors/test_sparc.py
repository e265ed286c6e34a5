"""The SPARC workflow, from submission to document."""

from actors.run_state import RunState
from actors.sparc import REFINEMENT_ROUNDS, SPARC
from bus.payload import MAX_PAYLOAD_BYTES
from bus.payloads import MAX_OBJECTIVE_CHARS, RunCompleted, StepAssigned
from tests.unit.actors.simulation import SimulatedRun, longest_answer


def open_steps(run: SimulatedRun) -> set[tuple[str, int]]:
    return {(step.step, step.iteration) for step in run.state.steps if step.status != "completed"}


def started() -> SimulatedRun:
    run = SimulatedRun(SPARC)
    run.submit()
    run.settle()
    return run


def refine(run: SimulatedRun, iteration: int, *, accepted: bool) -> None:
    for step in ("code", "critique", "test", "verdict"):
        run.do(step, iteration, accepted=accepted)


def until_refinement() -> SimulatedRun:
    run = started()
    for step in ("specification", "research", "pseudocode", "architecture"):
        run.do(step)
    return run


def inputs_of(run: SimulatedRun, step: str, iteration: int = 1) -> set[str]:
    payload = run.assigned(step, iteration).payload
    assert isinstance(payload, StepAssigned)
    return set(payload.inputs)


def test_specification_and_research_run_side_by_side() -> None:
    assert open_steps(started()) == {("specification", 1), ("research", 1)}


def test_pseudocode_waits_for_both() -> None:
    run = started()
    run.do("research")
    assert open_steps(run) == {("specification", 1)}
    run.do("specification")
    assert open_steps(run) == {("pseudocode", 1)}


def test_critique_and_test_run_side_by_side() -> None:
    run = until_refinement()
    assert open_steps(run) == {("code", 1)}
    run.do("code")
    assert open_steps(run) == {("critique", 1), ("test", 1)}


def test_the_first_round_has_nothing_to_look_back_on() -> None:
    assert inputs_of(until_refinement(), "code") == {"specification", "pseudocode", "architecture"}


def test_a_round_that_is_not_accepted_is_done_again_with_its_critique_at_hand() -> None:
    run = until_refinement()
    refine(run, 1, accepted=False)
    assert open_steps(run) == {("code", 2)}
    assert {"code", "critique", "test", "verdict"} <= inputs_of(run, "code", 2)


def test_an_accepted_round_ends_the_refinement() -> None:
    run = until_refinement()
    refine(run, 1, accepted=True)
    assert open_steps(run) == {("completion", 1)}


def test_at_the_limit_the_run_goes_on_with_the_last_round() -> None:
    run = until_refinement()
    for iteration in range(1, REFINEMENT_ROUNDS + 1):
        refine(run, iteration, accepted=False)
    assert open_steps(run) == {("completion", 1)}
    run.do("completion")
    document = finished(run.state).document
    assert f"Round {REFINEMENT_ROUNDS} of at most {REFINEMENT_ROUNDS}, not accepted." in document


def test_the_document_has_a_part_for_each_phase() -> None:
    run = until_refinement()
    refine(run, 1, accepted=True)
    run.do("completion")
    ended = finished(run.state)
    headings = [line for line in ended.document.splitlines() if line.startswith("#")]
    assert headings == [
        "# Sort a list of names",
        "## Specification",
        "## Research",
        "## Pseudocode",
        "## Architecture",
        "## Refinement",
        "### Code",
        "### Critique",
        "### Test",
        "### Verdict",
        "## Completion",
    ]
    assert ended.steps == 9
    assert ended.usage.prompt_tokens == 90


def test_the_longest_inputs_fit_one_event() -> None:
    """Every character at its widest: a control character is six bytes of JSON."""
    run = started()
    objective = "\x01" * MAX_OBJECTIVE_CHARS
    for step in SPARC.steps():
        inputs = {
            name: longest_answer(source.work, "\x01")
            for name in step.inputs
            if (source := SPARC.step(name))
        }
        assigned = run.assigned("research").payload.model_copy(
            update={"objective": objective, "inputs": inputs}
        )
        assert len(assigned.model_dump_json()) < MAX_PAYLOAD_BYTES


def finished(state: RunState) -> RunCompleted:
    assert isinstance(state.ended, RunCompleted)
    return state.ended
