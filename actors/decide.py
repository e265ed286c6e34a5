"""What happens next in a run: state in, commands out. Pure.

The same state always gives the same commands, and their ids depend on nothing but the
run, so two coordinators that decide from the same log say the same. Once the events that
the commands make are folded, there is nothing more to ask for until another fact comes.
"""

from collections.abc import Iterable, Iterator

from actors.command import (
    AssignStep,
    Command,
    CompleteRun,
    FailRun,
    RefuseResult,
    assignment_of,
    draft_of,
)
from actors.document import Chapter, Part, label_of, render_document
from actors.record import Key, RunState, Submission
from actors.workflow import LoopSpec, Node, StepSpec, WorkflowSpec, steps_of
from bus.event import MAX_PAYLOAD_BYTES

__all__ = [
    "AssignStep",
    "Command",
    "CompleteRun",
    "FailRun",
    "RefuseResult",
    "decide",
    "draft_of",
]


def decide(state: RunState) -> tuple[Command, ...]:
    """What the coordinator has to say now: refusals first, then how the run goes on."""
    refusals = (
        RefuseResult(
            refused=refusal.id,
            step=refusal.step,
            iteration=refusal.iteration,
            attempt=refusal.attempt,
            epoch=refusal.epoch,
            reason=refusal.reason,
        )
        for refusal in state.refusals
    )
    return (*refusals, *_go_on(state))


def _go_on(state: RunState) -> tuple[Command, ...]:
    submission, workflow = state.submission, state.workflow
    if submission is None or state.ended is not None:
        return ()
    if workflow is None:
        message = f"there is no workflow {submission.workflow}"
        return (FailRun(code="unknown_workflow", message=message, step=None, cause=submission.id),)
    given_up = _given_up(state, workflow)
    if given_up is not None:
        return (given_up,)
    if all(_final_round(state, node) for node in workflow.nodes):
        return (_complete(state, submission, workflow),)
    assignments = tuple(_assignments(state, submission, workflow))
    return next(_oversize(assignments), None) or assignments


def _given_up(state: RunState, workflow: WorkflowSpec) -> FailRun | None:
    """The end of the run, if an attempt failed that nothing follows."""
    for (name, _), assignment in state.assignments.items():
        step, failure = workflow.step(name), assignment.failure
        if step is None or failure is None:
            continue
        if not failure.retryable or assignment.attempt >= step.max_attempts:
            times = "once" if assignment.attempt == 1 else f"{assignment.attempt} times"
            message = f"step {name} failed {times}: {failure.message}"
            return FailRun(code=failure.code, message=message, step=name, cause=failure.id)
    return None


def _assignments(
    state: RunState, submission: Submission, workflow: WorkflowSpec
) -> Iterator[AssignStep]:
    """Every step whose inputs are there and that nobody is to work on yet."""
    for node in workflow.nodes:
        iteration = _round(state, node)
        for step in steps_of(node):
            key = step.name, iteration
            last = state.assignments.get(key)
            failure = last.failure if last else None
            if key in state.results or (last and not failure):
                continue
            sources = _sources(state, workflow, node, step, iteration)
            if sources is None:
                continue
            yield AssignStep(
                step=step.name,
                iteration=iteration,
                attempt=last.attempt + 1 if last else 1,
                role=step.role,
                objective=submission.objective,
                inputs={name: dict(state.results[name, n].answer) for name, n in sources},
                deadline_s=step.deadline_s,
                cause=failure.id
                if failure
                else _cause(state, submission, node, iteration, sources),
            )


def _oversize(assignments: Iterable[AssignStep]) -> Iterator[tuple[FailRun]]:
    """The end of the run, for each assignment that no event could hold."""
    for command in assignments:
        size_bytes = len(assignment_of(command).model_dump_json().encode())
        if size_bytes > MAX_PAYLOAD_BYTES:
            message = f"step {command.step} would read {size_bytes} bytes; declare fewer inputs"
            yield (
                FailRun(
                    code="inputs_too_large",
                    message=message,
                    step=command.step,
                    cause=command.cause,
                ),
            )


def _complete(state: RunState, submission: Submission, workflow: WorkflowSpec) -> CompleteRun:
    chapters = [_chapter(state, node) for node in workflow.nodes]
    return CompleteRun(
        document=render_document(submission.objective, chapters),
        steps=len(state.results),
        usage=state.usage,
        cause=list(state.results.values())[-1].id,
    )


def _chapter(state: RunState, node: Node) -> Chapter:
    last, note = _round(state, node), ""
    if isinstance(node, LoopSpec):
        verdict = "accepted" if _is_accepted(state, node, last) else "not accepted"
        note = f"Round {last} of at most {node.limit}, {verdict}."
    parts = tuple(
        Part(title=label_of(step.name), answer=state.results[step.name, last].answer)
        for step in steps_of(node)
    )
    return Chapter(title=label_of(node.name), parts=parts, note=note)


def _sources(
    state: RunState, workflow: WorkflowSpec, node: Node, step: StepSpec, iteration: int
) -> tuple[Key, ...] | None:
    """The results that a step reads, None while one of them is missing."""
    keys = []
    for source in step.inputs:
        origin = workflow.node_of(source)
        if isinstance(node, LoopSpec) and origin is node:
            round_read = iteration - (not node.reads_same_round(step, source))
            if round_read == 0:
                continue
        else:
            round_read = _final_round(state, origin)
        if (source, round_read) not in state.results:
            return None
        keys.append((source, round_read))
    return tuple(keys)


def _cause(
    state: RunState, submission: Submission, node: Node, iteration: int, sources: tuple[Key, ...]
) -> str:
    """The event that came last of those that a first attempt had to wait for."""
    awaited = set(sources)
    if isinstance(node, LoopSpec) and iteration > 1:
        awaited |= {(step.name, iteration - 1) for step in node.steps}
    in_log_order = [result.id for key, result in state.results.items() if key in awaited]
    return in_log_order[-1] if in_log_order else submission.id


def _round(state: RunState, node: Node) -> int:
    """The round that a node is in, or ended with; 1 for a step of its own."""
    number = 1
    if isinstance(node, LoopSpec):
        while (
            number < node.limit
            and _is_done(state, node, number)
            and not _is_accepted(state, node, number)
        ):
            number += 1
    return number


def _final_round(state: RunState, node: Node) -> int:
    """The round whose answers stand for the node; 0 while it is not done."""
    last = _round(state, node)
    return last if _is_done(state, node, last) else 0


def _is_done(state: RunState, node: Node, number: int) -> bool:
    return all((step.name, number) in state.results for step in steps_of(node))


def _is_accepted(state: RunState, loop: LoopSpec, number: int) -> bool:
    return state.results[loop.verdict_step, number].answer.get("accepted") is True
