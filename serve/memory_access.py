"""Who may look at which part of the memory, and who may write there. Pure.

The tenant is always the caller's own: another one's memory cannot even be named.
"""

from dataclasses import dataclass
from typing import Final

from policies.caller import Caller
from policies.roles import Allow, Deny, Permission

_DENIED: Final = Deny("This part of the memory is not yours.")
_READ_ONLY: Final = Deny("People write to shared/... and to user/<their own id>/... only.")


@dataclass(frozen=True, slots=True, kw_only=True)
class IfSeen:
    """Allowed if the caller may see the run."""

    run: str


def reading(caller: Caller, namespace: str) -> Allow | IfSeen | Deny:
    """Whether somebody may look at a namespace and all below it.

    Args:
        caller: who asks.
        namespace: such as ``shared/notes``, or the beginning of some, such as ``shared``.
    """
    match namespace.split("/"):
        case ["shared" | "role", *_]:
            return Allow()
        case ["user", whose, *_] if whose == caller.user:
            return Allow()
        case ["user", *_] if _may_look_at_others(caller):
            return Allow()
        case ["run", run, *_]:
            return IfSeen(run=run)
        case _:
            return _DENIED


def writing(caller: Caller, namespace: str) -> Allow | Deny:
    """Whether somebody may write to a namespace, as far as it is a question of whose that is."""
    match namespace.split("/"):
        case ["shared", _, *_]:
            return Allow()
        case ["user", whose, _, *_] if whose == caller.user:
            return Allow()
        case _:
            return _READ_ONLY


def everything(caller: Caller) -> tuple[str, ...]:
    """All that somebody may look at, but for what belongs to single runs."""
    people = "user" if _may_look_at_others(caller) else f"user/{caller.user}"
    return ("shared", "role", people)


def _may_look_at_others(caller: Caller) -> bool:
    return isinstance(caller.may(Permission.RUN_ANY), Allow)
