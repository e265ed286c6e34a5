"""How a run ends: cancelled, failed, too late, or completed with its document. Pure."""

from collections.abc import Iterator
from datetime import datetime

from pydantic_core import to_json

from actors.command import MOST_BYTES, CancelRun, CompleteRun, EndRun, FailRun
from actors.document import Chapter, Part, label_of, render_document
from actors.entry import Key, Submission
from actors.progress import Misfit, Progress
from actors.record import RunState
from actors.workflow import LoopSpec, Node, StepSpec, steps_of
from bus.budget import SpentBudget
from policies.budgets import WithinBudget, judge
from policies.errors import BudgetExhausted

BUDGET_EXHAUSTED = BudgetExhausted.code


def end_without_work(state: RunState, submission: Submission) -> EndRun | None:
    """The end of a run that is not wanted any more, or that cannot be run."""
    if state.cancel is not None:
        return CancelRun(
            requested_by=state.cancel.requested_by,
            reason=state.cancel.reason,
            cause=state.cancel.id,
            words_of=state.cancel.sealed_for,
        )
    if state.flaw is not None:
        cause = state.reopened.id if state.reopened else submission.id
        return FailRun(code=state.flaw.code, message=state.flaw.message, step=None, cause=cause)
    return None


def end_of_work(progress: Progress, submission: Submission, now: datetime) -> EndRun | None:
    """The end of a run in which something failed for good, or everything is done.

    Or its budget is used up, or time is up: what is done by the time that anybody looks is
    neither too dear nor too late.
    """
    is_done = all(progress.final_round(node) for node in progress.workflow.nodes)
    stopped = None if is_done else _over_budget(progress, submission)
    failed = stopped or next(_failures(progress, submission), None)
    if failed is not None:
        return failed
    if is_done:
        return _complete(progress, submission)
    deadline_at = progress.state.deadline_at
    if deadline_at is None or now < deadline_at:
        return None
    reopened = progress.state.reopened
    return FailRun(
        code="run_deadline",
        message=f"the run was not done within {submission.deadline_s:g} s",
        step=None,
        cause=reopened.id if reopened else submission.id,
    )


def _over_budget(progress: Progress, submission: Submission) -> FailRun | None:
    state = progress.state
    verdict = judge(submission.budget, state.spent)
    if isinstance(verdict, WithinBudget):
        return None
    return FailRun(
        code=BUDGET_EXHAUSTED,
        message=str(verdict),
        step=None,
        cause=state.reopened.id if state.reopened else submission.id,
        budget=SpentBudget(
            budget=verdict.budget,
            role=verdict.role or None,
            spent=verdict.spent,
            limit=verdict.limit,
        ),
    )


def _failures(progress: Progress, submission: Submission) -> Iterator[FailRun]:
    """The end of the run, for each failure that nothing follows."""
    state, workflow = progress.state, progress.workflow
    for key, assignment in state.assignments.items():
        failure = assignment.failure
        step = workflow.step(key[0]) if failure and assignment.tries else None
        if failure is None or step is None:
            continue
        if not failure.retryable or assignment.tries >= step.max_attempts:
            times = "once" if assignment.tries == 1 else f"{assignment.tries} times"
            message = f"{_name(key)} failed {times}: {failure.message}"
            yield FailRun(code=failure.code, message=message, step=key[0], cause=failure.id)
    for key, approval in state.approvals.items():
        if approval.status == "denied" and approval.answer is not None and workflow.step(key[0]):
            reason = f": {approval.answer.reason}" if approval.answer.reason else ""
            message = f"{_name(key)} was not approved by {approval.answer.requested_by}{reason}"
            yield FailRun(
                code="approval_denied",
                message=message,
                step=key[0],
                cause=approval.answer.id,
                words_of=approval.answer.sealed_for,
            )
    for node in workflow.nodes:
        for step in steps_of(node):
            items = progress.items(step, progress.round(node)) if step.for_each else None
            if isinstance(items, Misfit):
                cause = items.cause or submission.id
                yield FailRun(code=items.code, message=items.message, step=step.name, cause=cause)


def _name(key: Key) -> str:
    name, _, item = key
    return f"step {name}, item {item}," if item else f"step {name}"


def _complete(progress: Progress, submission: Submission) -> CompleteRun | FailRun:
    """The end of a run in which everything is done; it fails if no event could hold its result."""
    state = progress.state
    ordered = sorted(state.results.values(), key=lambda result: result.place)
    last = ordered[-1] if ordered else None
    recalled = tuple(dict.fromkeys(each for result in ordered for each in result.recalled))
    cause = last.id if last and not last.adopted else submission.id
    document = render_document(
        submission.objective,
        (_chapter(progress, node) for node in progress.workflow.nodes),
        sources=tuple(map(str, recalled)),
    )
    size_bytes = len(to_json((document, recalled)))
    if size_bytes > MOST_BYTES:
        message = f"the result would have {size_bytes} bytes; let the steps answer with less"
        return FailRun(code="result_too_large", message=message, step=None, cause=cause)
    return CompleteRun(
        document=document,
        recalled=recalled,
        steps=len(state.results),
        usage=state.usage,
        cause=cause,
    )


def _chapter(progress: Progress, node: Node) -> Chapter:
    last, note = progress.round(node), ""
    if isinstance(node, LoopSpec):
        verdict = "accepted" if progress.is_accepted(node, last) else "not accepted"
        note = f"Round {last} of at most {node.limit}, {verdict}."
    parts = tuple(part for step in steps_of(node) for part in _parts(progress, step, last))
    if not parts:
        note = "The list was empty: there was nothing to do."
    return Chapter(title=label_of(node.name), parts=parts, note=note)


def _parts(progress: Progress, step: StepSpec, iteration: int) -> Iterator[Part]:
    """The answer of a step; of a fan-out each, numbered as in the list."""
    title = label_of(step.name)
    for number, result in enumerate(progress.results(step, iteration) or (), start=1):
        numbered = f"{title} {number}" if step.for_each else title
        yield Part(title=numbered, answer=result.answer)
