"""What events mean to the memory."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from actors.memory_events import change_of, episodes_of
from bus.event import Draft, Event
from bus.identity import Authority
from bus.memory_payloads import (
    ItemReference,
    MemoryDeleted,
    MemoryQuarantined,
    MemoryReleased,
    MemoryWritten,
)
from bus.nkey import AgentKey
from bus.payload import Payload
from bus.payloads import AgentStopped, RunCompleted, RunFailed, Usage
from bus.signing import Sender
from bus.trust_payloads import SubjectForgotten
from policies.capabilities import Capabilities
from storage.memory_change import (
    Deny,
    Forget,
    MemoryChange,
    Quarantine,
    Release,
    Version,
    Write,
)

POLICY = Capabilities.shipped()
AT = datetime(2026, 11, 26, 12, tzinfo=UTC)
AUTHORITY = Authority.create()


@dataclass
class Said:
    """An event as a member of a role would sign it."""

    role: str = "coder"
    run: str = "r1"
    user: str | None = "ada"

    def event(self, payload: Payload, suffix: tuple[str, ...] = ()) -> Event:
        key = AgentKey.generate()
        credential = AUTHORITY.issue(
            key.public,
            role=self.role,
            name=f"{self.role}-1",
            permissions=POLICY.permissions(self.role, key.public),
            ttl=timedelta(hours=1),
        )
        draft = Draft(run=self.run, payload=payload, id="e1", suffix=suffix, on_behalf_of=self.user)
        return Sender(key, credential, POLICY).sign(draft)


def change(event: Event, objective: str = "") -> MemoryChange | None:
    return change_of(
        event,
        place=7,
        stored_at=AT,
        policy_of={POLICY.digest: POLICY}.__getitem__,
        objective=objective,
    )


def written(namespace: str, **fields: object) -> MemoryWritten:
    return MemoryWritten.model_validate(
        {"namespace": namespace, "item": "a", "kind": "semantic", "content": "text", **fields}
    )


def test_a_write_is_a_change_with_its_cause() -> None:
    payload = written(
        "role/coder/notes",
        base=2,
        reason="it helps",
        step="code",
        derived_from=(ItemReference(namespace="shared/x", item="y", version=3),),
        ttl_s=60,
    )
    made = change(Said().event(payload))
    assert isinstance(made, Write)
    assert (made.cause.event, made.cause.place, made.cause.author) == ("e1", 7, "coder/coder-1")
    assert (made.cause.run, made.cause.tenant, made.cause.subject) == ("r1", "default", "ada")
    assert (made.base, made.content, made.step, made.reason) == (2, "text", "code", "it helps")
    assert made.sources == (Version(namespace="shared/x", item="y", version=3),)
    assert made.expires_at == AT + timedelta(seconds=60)


@pytest.mark.parametrize(
    ("role", "run", "user", "namespace", "is_allowed"),
    [
        ("coder", "r1", "ada", "role/coder/notes", True),
        ("coder", "r1", "ada", "run/r1/notes", True),
        ("coder", "r1", "ada", "run/r2/notes", False),
        ("coder", "r1", "ada", "role/judge/notes", False),
        ("coder", "r1", "ada", "shared/notes", False),
        ("coder", "r1", "ada", "user/ada/notes", False),
        ("gateway", "memory", "ada", "user/ada/notes", True),
        ("gateway", "memory", "ada", "user/bob/notes", False),
        ("gateway", "memory", None, "user/bob/notes", False),
        ("gateway", "memory", "ada", "shared/notes", True),
        ("gateway", "memory", "ada", "run/r1/notes", False),
    ],
)
def test_who_may_write_where(
    role: str,
    run: str,
    user: str | None,
    namespace: str,
    is_allowed: bool,  # noqa: FBT001
) -> None:
    said = Said(role=role, run=run, user=user)
    made = change(said.event(written(namespace)))
    assert isinstance(made, Write if is_allowed else Deny)
    deleted = change(said.event(MemoryDeleted(namespace=namespace, item="a")))
    assert isinstance(deleted, Write if is_allowed else Deny)


def test_the_tenant_is_the_run_s() -> None:
    made = change(Said(role="gateway", run="acme_memory").event(written("shared/notes")))
    assert made is not None
    assert made.cause.tenant == "acme"


def test_nothing_personal_is_taken_from_what_is_erased() -> None:
    event = Said().event(written("role/coder/notes", reason="hers", metadata={"her": "own"}))
    erased = change(replace(event, is_erased=True))
    assert isinstance(erased, Write)
    assert (erased.content, erased.reason, erased.metadata) == (None, "", {})
    assert not erased.is_deletion


def test_a_completed_run_is_an_episode_of_its_user() -> None:
    recalled = ItemReference(namespace="user/ada/episodes", item="r0", version=1)
    end = RunCompleted(
        document="# Do it\n" + "x" * 20_000,
        steps=3,
        usage=Usage(prompt_tokens=1, completion_tokens=1),
        recalled=(recalled,),
    )
    made = change(Said(role="coordinator").event(end))
    assert isinstance(made, Write)
    assert (made.namespace, made.item, made.kind) == ("user/ada/episodes", "r1", "episodic")
    assert made.content is not None
    assert made.content.startswith("# Do it")
    assert len(made.content) == 8_000
    assert made.metadata["outcome"] == "completed"
    assert made.sources == (Version(namespace="user/ada/episodes", item="r0", version=1),)


def test_a_failed_run_is_one_with_what_it_was_to_do() -> None:
    end = RunFailed(code="deadline", message="too late")
    made = change(Said(role="coordinator").event(end), objective="Do it")
    assert isinstance(made, Write)
    assert made.content == "Do it\n\nThe run failed: too late (deadline)"
    assert made.metadata["outcome"] == "failed"


@pytest.mark.parametrize("user", [None, "", "a.b", "a/b", "*"])
def test_a_run_without_a_user_that_can_be_named_keeps_its_own_episode(user: str | None) -> None:
    assert episodes_of(user, "r1") == "run/r1/episodes"


def test_what_the_authority_says_of_all_of_it() -> None:
    said = Said(role="authority", user=None)
    quarantine = MemoryQuarantined(agent="coder/coder-1", since=3, requested_by="operator")
    made = change(said.event(quarantine))
    assert isinstance(made, Quarantine)
    assert (made.agent, made.since) == ("coder/coder-1", 3)
    released = change(said.event(MemoryReleased(quarantine="q", requested_by="operator")))
    assert isinstance(released, Release)
    assert released.quarantine == "q"
    forgotten = SubjectForgotten(subject="ada", forgotten_at=AT, requested_by="op", reason="")
    made = change(said.event(forgotten, suffix=("token",)))
    assert isinstance(made, Forget)
    assert made.person == "ada"


def test_other_events_change_nothing() -> None:
    stopped = AgentStopped(role="coder", name="coder-1", last_sequence=1)
    assert change(Said().event(stopped)) is None
