"""The subject grammar: where an event of a run is published.

    evt.<partition>.<run>.<kind...>[.<role>[.<priority>]]

The partition of a run that belongs to a tenant is that tenant's, ``t-<tenant>``, so that the
broker can tell what is whose. Of any other it is a stable hash modulo 16: one owner can later
take a share of all runs by a subject filter. The kind is the event type without
its prefix and version: ``swarm.step.completed.v1`` lives on ``step.completed``.
Kinds in `ROLE_KINDS` carry a role, `ASSIGNED` a priority as well.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache

from bus.errors import SubjectMismatch

PARTITIONS = 16
STREAM = "EVENTS"
ALL_EVENTS = "evt.>"
SYSTEM_RUN = "swarm"
"""The run of events that belong to no user's run: identities, agents starting and stopping."""
TRUST_RUN = "trust"
"""The run of events that change what is trusted: short, so that whoever may act on an event can
first ask for all of it that stands before."""
MEMORY_RUN = "memory"
"""The run of what people write to the memory, without a run; each tenant has one."""
RESERVED_RUNS = frozenset({SYSTEM_RUN, TRUST_RUN, MEMORY_RUN})
"""Never ids of a user's run, nor what is left of one without its tenant."""

ASSIGNED = "step.assigned"
ROLE_KINDS = frozenset(
    {
        *(ASSIGNED, "step.claimed", "step.completed", "step.failed", "assignment.dead"),
        *("tool.called", "tool.answered"),
    }
)
KEY_KINDS = frozenset(
    {"identity.issued", "identity.revoked", "rotation.requested", "subject.forgotten"}
)
"""Kinds followed by a public key, or what stands for a person, so that what is said of one can be
looked up by its subject."""

DEFAULT_TENANT = "default"
"""Whom everybody belongs with of whom nothing else is said."""
_OF_TENANT = "_"
_TENANT = re.compile(r"[a-z0-9-]{1,32}\Z")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_KIND = re.compile(r"[a-z]+\.[a-z]+\Z")
_TYPE = re.compile(r"swarm\.([a-z]+(?:\.[a-z]+)+)\.v([1-9][0-9]*)\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A parsed subject; `suffix` holds the tokens after the kind."""

    partition: str
    run: str
    kind: str
    suffix: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ".".join(("evt", self.partition, self.run, self.kind, *self.suffix))

    @property
    def role(self) -> str | None:
        """The role an event of a step belongs to, None for other kinds."""
        return self.suffix[0] if self.kind in ROLE_KINDS else None


@lru_cache(maxsize=4096)
def partition_of(run: str) -> str:
    """The partition of a run: of its tenant, or the first byte of its SHA-256 modulo 16."""
    tenant = tenant_of(run)
    if tenant is not None:
        return f"t-{tenant}"
    return f"{hashlib.sha256(run.encode()).digest()[0] % PARTITIONS:02d}"


def tenant_of(run: str) -> str | None:
    """The tenant in the id of a run, None where it names none."""
    tenant, mark, _ = run.rpartition(_OF_TENANT)
    return tenant if mark and is_tenant(tenant) else None


def is_reserved(run: str) -> bool:
    """Whether a run is none of a user's, of whatever tenant."""
    return run.rpartition(_OF_TENANT)[2] in RESERVED_RUNS


def run_of(tenant: str, run: str) -> str:
    """The id of a run of a tenant; of the default one, it is the run's own.

    Args:
        tenant: a name for which `is_tenant` holds.
        run: a token without an underscore, of at most 31 characters.
    """
    return run if tenant == DEFAULT_TENANT else f"{tenant}{_OF_TENANT}{run}"


def tenant_filter(tenant: str) -> str:
    """The filter that matches every event of a tenant's runs; the default one has no such filter.

    Raises:
        SubjectMismatch: that cannot name a tenant, or it is the default one.
    """
    if not is_tenant(tenant) or tenant == DEFAULT_TENANT:
        raise SubjectMismatch(f"{tenant[:80]!r} is not a tenant with a partition of its own")
    return f"evt.t-{tenant}.>"


def is_tenant(text: str) -> bool:
    """Whether the text can name a tenant: 1 to 32 of a-z 0-9 -."""
    return _TENANT.match(text) is not None


def is_token(text: str) -> bool:
    """Whether the text can stand as one token of a subject (1 to 64 of A-Z a-z 0-9 _ -)."""
    return _TOKEN.match(text) is not None


def kind_of(event_type: str) -> str:
    """The subject kind of an event type.

    Raises:
        SubjectMismatch: the type does not have the form ``swarm.<kind>.v<N>``.
    """
    match = _TYPE.match(event_type)
    if match is None:
        raise SubjectMismatch(f"event type {event_type!r} is not of the form swarm.<kind>.v<N>")
    return match.group(1)


def subject_for(run: str, event_type: str, *suffix: str) -> str:
    """Build the subject of an event.

    Raises:
        SubjectMismatch: a part is not a token, or the kind has another number of suffix tokens.
    """
    kind = kind_of(event_type)
    _check_tokens(run, *suffix)
    _check_suffix(kind, suffix)
    return str(Subject(partition=partition_of(run), run=run, kind=kind, suffix=suffix))


def parse(subject: str) -> Subject:
    """Parse a subject strictly: what this returns, `str` turns back into the same text.

    Raises:
        SubjectMismatch: the subject is not of the grammar, with the part that is not.
    """
    head, *rest = subject.split(".")
    if head != "evt" or len(rest) < 4:  # noqa: PLR2004 - partition, run and a kind of two words
        raise SubjectMismatch(f"subject {subject!r} is not evt.<partition>.<run>.<kind...>")
    partition, run, *tokens = rest
    _check_tokens(run, *tokens)
    if partition != partition_of(run):
        raise SubjectMismatch(f"subject {subject!r}: {partition!r} is not the partition of {run!r}")
    kind, suffix = ".".join(tokens[:2]), tuple(tokens[2:])
    _check_suffix(kind, suffix)
    return Subject(partition=partition_of(run), run=run, kind=kind, suffix=suffix)


def run_filter(run: str) -> str:
    """The filter that matches every event of one run.

    Raises:
        SubjectMismatch: the run is not a token.
    """
    _check_tokens(run)
    return f"evt.{partition_of(run)}.{run}.>"


def kind_filter(kind: str) -> str:
    """The filter that matches every event of one kind, of whatever run, role or priority.

    Raises:
        SubjectMismatch: it is not a kind: two words.
    """
    if _KIND.match(kind) is None:
        raise SubjectMismatch(f"{kind[:80]!r} is not a kind of event")
    return f"evt.*.*.{kind}" + ".>" * (_suffix_length(kind) > 0)


def group_filter(run: str, group: str) -> str:
    """The filter that matches the events of one run whose kind begins with that word.

    Raises:
        SubjectMismatch: the run or the word is not a token.
    """
    _check_tokens(run, group)
    return f"evt.{partition_of(run)}.{run}.{group}.>"


def collide(one: str, other: str) -> bool:
    """Whether there can be a subject that both filters match."""
    for first, second in zip(one.split("."), other.split("."), strict=False):
        if ">" in (first, second):
            return True
        if first != second and "*" not in (first, second):
            return False
    return one.count(".") == other.count(".")


def _check_tokens(*tokens: str) -> None:
    for token in tokens:
        if not is_token(token):
            raise SubjectMismatch(f"{token[:80]!r} cannot be a token of a subject")


def _check_suffix(kind: str, suffix: tuple[str, ...]) -> None:
    expected = _suffix_length(kind)
    if len(suffix) != expected:
        raise SubjectMismatch(f"{kind} takes {expected} suffix tokens, got {len(suffix)}")


def _suffix_length(kind: str) -> int:
    return 2 if kind == ASSIGNED else int(kind in ROLE_KINDS or kind in KEY_KINDS)
