"""How it stands with the witnesses: whether each has cosigned what the audit log holds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cluster.findings import Finding
from storage.cosignature import WitnessAddress
from storage.witnessed import WitnessState

HINT = "See what it has signed at URL/checkpoint, and compare with a copy of the audit log."
SILENT_HINT = "Start it, or take it out of SWARM_WITNESSES; the swarm goes on without it."


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessStatus:
    """One witness of the settings.

    Attributes:
        name: its key name.
        url: where it is asked.
        size: leaves of the checkpoint that it cosigned last.
        lag: leaves that the audit log has beyond that; less than 0 where it has fewer.
        problem: in a word; empty while it cosigns.
        detail: in a line.
    """

    name: str
    url: str
    size: int
    lag: int
    problem: str
    detail: str

    @property
    def healthy(self) -> bool:
        """Whether it cosigns what it is shown."""
        return not self.problem

    def document(self) -> dict[str, object]:
        """The same as a document."""
        return {
            "name": self.name,
            "url": self.url,
            "healthy": self.healthy,
            "cosigned": self.size,
            "lag": self.lag,
            "problem": self.problem,
            "detail": self.detail,
        }

    def finding(self) -> Finding:
        """The same for the doctor."""
        hint = SILENT_HINT if self.problem == "silent" else HINT
        return Finding(check=f"witness {self.name}", ok=self.healthy, detail=self.detail, hint=hint)


def witness_statuses(
    witnesses: Sequence[WitnessAddress], states: Iterable[WitnessState], size: int
) -> list[WitnessStatus]:
    """Each witness of the settings, in their order.

    Args:
        witnesses: of the settings.
        states: what the auditor noted of those that it asked.
        size: leaves of the audit log.
    """
    noted = {state.witness: state for state in states}
    return [_status(witness, noted.get(str(witness.key)), size) for witness in witnesses]


def _status(witness: WitnessAddress, noted: WitnessState | None, size: int) -> WitnessStatus:
    cosigned = 0 if noted is None else noted.size
    problem = "" if noted is None else noted.problem
    detail = f"cosigned {cosigned} of {size}"
    if noted is None and size:
        problem, detail = "silent", "not asked yet"
    elif noted is not None and problem:
        detail = f"{detail}: {noted.detail}"
    elif cosigned > size:
        problem, detail = "ahead", f"it has cosigned {cosigned} leaves; this log has only {size}"
    return WitnessStatus(
        name=witness.key.name,
        url=witness.url,
        size=cosigned,
        lag=size - cosigned,
        problem=problem,
        detail=detail,
    )
