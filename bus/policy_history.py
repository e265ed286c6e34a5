"""Which policy is in force at a place in the log. Pure.

A policy is in force from the event that adopts it, its own place not included, up to the next
such event. Before the first one nothing is permitted, but for what makes identities, policies
and roots known: those events come before any policy, and are for the authority alone.
"""

from bisect import bisect_left, insort
from operator import itemgetter
from typing import Final

from bus.errors import MalformedPolicy
from bus.identity import AUTHORITY_ROLE
from bus.payloads import PolicyAdopted
from bus.policy import PublishRules
from bus.signing import SubjectPolicy
from bus.subjects import Subject

FOUNDING: Final = PublishRules(
    '{"roles":{"' + AUTHORITY_ROLE + '":{"publish":["identity.issued.*","identity.revoked.*",'
    '"authority.rotated","root.rotated","policy.adopted"]}},"version":1}'
)
"""What is permitted at any place, whatever policy an event claims."""
FOUNDING_TYPES: Final = frozenset(
    f"swarm.{kind}.v1"
    for kind in (
        "identity.issued",
        "identity.revoked",
        "authority.rotated",
        "root.rotated",
        "policy.adopted",
    )
)
_PLACE: Final = itemgetter(0)


class NotInForce:
    """Stands for a policy that is not in force where an event claims it: permits nothing."""

    def __init__(self, digest: str, reason: str) -> None:
        self.digest = digest
        self._reason = reason

    def refusal(self, role: str, subject: Subject) -> str | None:  # noqa: ARG002 - the port has it
        """Why nobody may publish under it."""
        return self._reason


class PolicyHistory:
    """The policies that were adopted, each with its place in the log."""

    def __init__(self) -> None:
        self._adopted: list[tuple[int, PublishRules]] = []
        self._first: dict[str, int] = {}

    def adopt(self, stream_sequence: int, adopted: PolicyAdopted, *, event: str) -> None:
        """Take note of an adoption that was verified; in any order, and as often as it is met.

        One that stands in the log once more does nothing there: a broker that repeats it would
        bring an older policy back.

        Args:
            stream_sequence: its place.
            adopted: what it says.
            event: its id.

        Raises:
            MalformedPolicy: the document is not one, or not the one that the digest names.
        """
        first = self._first.get(event)
        if first is not None and first <= stream_sequence:
            return
        rules = PublishRules(adopted.document)
        if rules.digest != adopted.digest:
            raise MalformedPolicy(f"the document of policy {adopted.digest[:64]} is another one")
        self._adopted = [each for each in self._adopted if each[0] != first]
        self._first[event] = stream_sequence
        insort(self._adopted, (stream_sequence, rules), key=_PLACE)

    def in_force(self, stream_sequence: int) -> PublishRules | None:
        """The policy at a place; None before the first one."""
        index = bisect_left(self._adopted, stream_sequence, key=_PLACE)
        return self._adopted[index - 1][1] if index else None

    def judge(self, stream_sequence: int, claimed: str) -> SubjectPolicy:
        """The policy to judge an event by that is not one of the founding types.

        One that is not in force is replaced by something that permits nothing.

        Args:
            stream_sequence: the place of the event.
            claimed: the digest in it.
        """
        rules = self.in_force(stream_sequence)
        if rules is None:
            return NotInForce(claimed, f"no policy was adopted before {stream_sequence}")
        if rules.digest == claimed:
            return rules
        was = any(earlier.digest == claimed for _, earlier in self._adopted)
        word = "not in force there" if was else "not known"
        return NotInForce(claimed, f"its policy {claimed[:12]} is {word}, but {rules.digest[:12]}")
