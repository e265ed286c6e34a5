"""What the command line prints: progress and complaints to stderr, results to stdout."""

import re
from collections.abc import Sequence

from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

from cluster.findings import Finding
from cluster.health import PartHealth
from cluster.state import Progress, State
from swarm.cli.steps import step_line
from swarm.view import (
    Approval,
    AuditSummary,
    DeadLetter,
    RunEvent,
    RunLine,
    RunStatus,
    StepStatus,
)

_OBJECTIVE_CHARS = 60
_TERMINAL_CODES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printer(*, to_stderr: bool = False) -> Console:
    """A console that prints plain text as it is."""
    return Console(stderr=to_stderr, highlight=False, markup=False, soft_wrap=True)


def complain(message: str, hint: str = "") -> None:
    """Say what went wrong, and what to do about it."""
    err = printer(to_stderr=True)
    err.print(f"swarm: {harmless(message)}", style="red")
    if hint:
        err.print(f"       {hint}")


def progress_line(progress: Progress) -> str | None:
    """One line for a part that got somewhere; None for what is not worth a line."""
    if progress.phase in ("starting", "stopping"):
        return None
    seconds = f"{progress.seconds:6.1f} s"
    detail = f"  {harmless(progress.detail)}" if progress.detail else ""
    return f"  {progress.part:<10} {progress.phase:<8} {seconds}{detail}"


def show_progress(progress: Progress) -> None:
    """Print a part's progress to stderr."""
    line = progress_line(progress)
    if line is not None:
        style = "red" if progress.phase == "failed" else None
        printer(to_stderr=True).print(line, style=style)


def show_status(state: State, health: Sequence[PartHealth]) -> None:
    """Print where everything is and whether it answers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("part", "health", "ms", "address", ""):
        table.add_column(column, justify="right" if column == "ms" else "left", overflow="fold")
    for part in health:
        word = "ok" if part.healthy else "DOWN"
        table.add_row(part.name, word, f"{part.latency_ms:.0f}", part.address, part.detail)
    out = printer()
    out.print(f"{state.phase}, since {state.began:%Y-%m-%d %H:%M:%S %Z}")
    out.print(table)


def show_findings(findings: Sequence[Finding]) -> None:
    """Print what the doctor found."""
    out = printer()
    for finding in findings:
        word, style = ("ok  ", None) if finding.ok else ("FAIL", "red")
        out.print(f"{word} {finding.check}: {finding.detail}", style=style)
        if finding.hint and not finding.ok:
            out.print(f"     {finding.hint}")


def show_step(event: RunEvent) -> None:
    """Print what there is to say of an event to stderr."""
    line = step_line(event)
    if line is not None:
        printer(to_stderr=True).print(harmless(line))


def show_runs(runs: Sequence[RunLine]) -> None:
    """Print runs, the newest last."""
    rows = [
        (
            run.id,
            run.status,
            f"{run.submitted_at:%Y-%m-%d %H:%M:%S}",
            run.requested_by,
            run.objective.split("\n")[0][:_OBJECTIVE_CHARS],
        )
        for run in runs
    ]
    show_table(("run", "status", "submitted", "by", "objective"), rows, "No runs yet.")


def show_approvals(approvals: Sequence[Approval]) -> None:
    """Print what waits for a person."""
    rows = [
        (each.id, each.run, f"{each.requested_at:%Y-%m-%d %H:%M:%S}", each.step)
        for each in approvals
    ]
    show_table(("approval", "run", "since", "step"), rows, "Nothing waits for an approval.")


def show_dead_letters(letters: Sequence[DeadLetter]) -> None:
    """Print what was given up."""
    rows = [
        (
            each.id,
            each.run,
            f"{each.step} [{each.item}]" if each.item else each.step,
            f"{each.attempt}",
            "yes" if each.redriven else "no",
            each.reason,
        )
        for each in letters
    ]
    columns = ("dead letter", "run", "step", "attempt", "redriven", "reason")
    show_table(columns, rows, "No dead letters.")


def show_result(status: RunStatus) -> None:
    """Print the result of a run as a document, or why there is none."""
    out = Console(highlight=False)
    if status.result is not None:
        out.print()
        out.print(Markdown(harmless(status.result)))
        out.print()
    elif status.failure is not None:
        where = f" in step {status.failure.step}" if status.failure.step else ""
        message = f"The run failed{where}: {status.failure.message} ({status.failure.code})"
        complain(message)
    elif status.cancellation is not None:
        by = status.cancellation
        complain(f"The run was cancelled by {by.requested_by}: {by.reason or 'no reason given'}")


def show_summary(status: RunStatus, seconds: float, audit: AuditSummary | None) -> None:
    """Print what the run took, and what the audit log has of it."""
    out = printer()
    tokens = status.usage
    out.print(
        f"Run {status.id} {status.status} in {seconds:.1f} s: {_count(status.steps)}, "
        f"{tokens.prompt_tokens} tokens read, {tokens.completion_tokens} written, "
        f"model {_model(status.model)}"
    )
    if audit is None:
        out.print("Audit: not complete yet; ask again with: swarm events " + status.id)
        return
    out.print("Audit")
    out.print(f"  events               {audit.events}")
    out.print(f"  signatures verified  {audit.signatures_verified}")
    out.print(f"  events refused       {audit.refused}")
    out.print(f"  Merkle root          {audit.root} (of {audit.tree_size} leaves)")
    out.print("  signed checkpoint")
    _print_note(audit.checkpoint or "none yet")
    if audit.cosigned is not None and audit.cosigned != audit.checkpoint:
        out.print("  newest checkpoint that a witness has cosigned")
        _print_note(audit.cosigned)


def _print_note(note: str) -> None:
    for line in note.rstrip("\n").split("\n"):
        printer().print(f"    {harmless(line)}")


def harmless(text: str) -> str:
    """Text from elsewhere, without what would steer a terminal."""
    return _TERMINAL_CODES.sub("", text)


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]], none: str) -> None:
    """Print a line for each row, however narrow the terminal: an id must stay in one piece."""
    out = printer()
    if not rows:
        out.print(none)
        return
    lines = [columns, *([harmless(cell) for cell in row] for row in rows)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    for line in lines:
        padded = (f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True))
        out.print("  ".join(padded).rstrip())


def _count(steps: Sequence[StepStatus]) -> str:
    agents = {step.agent for step in steps if step.agent}
    return f"{len(steps)} steps by {len(agents)} agents"


def _model(name: str) -> str:
    return "scripted (a stand-in: no model was asked)" if name == "scripted" else name
