"""Capabilities: what is not said is denied, and all three places that enforce them agree."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.identity import Permissions
from bus.payloads import PAYLOADS
from bus.reference import OBJECTS, chunk_subject
from bus.subjects import KEY_KINDS, ROLE_KINDS, STREAM, Subject, kind_of, parse, subject_for
from policies.bundle import Spend
from policies.capabilities import Capabilities, inbox_prefix, queue_name
from policies.errors import PolicyNotUsable

POLICY = Capabilities.shipped()
WORKERS = POLICY.worker_roles
ROLES = (*WORKERS, "launcher", "authority", "gateway", "coordinator", "auditor", "observer")
KEY = "U" + "A" * 55
TOKENS = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True)


def nats_matches(pattern: str, subject: str) -> bool:
    """NATS's own rule, written down a second time: * is one token, > at the end is one or more."""
    expected, tokens = pattern.split("."), subject.split(".")
    if expected[-1] == ">":
        return len(tokens) >= len(expected) and nats_matches(
            ".".join(expected[:-1] or ["*"]), ".".join(tokens[: max(1, len(expected) - 1)])
        )
    return len(expected) == len(tokens) and all(
        e in ("*", t) for e, t in zip(expected, tokens, strict=True)
    )


def broker_allows(permissions: Permissions, subject: str) -> bool:
    claims = permissions.as_claims()["pub"]
    assert isinstance(claims, dict)
    denied = any(nats_matches(str(p), subject) for p in _list(claims.get("deny")))
    if "allow" not in claims:
        return not denied
    return not denied and any(nats_matches(str(p), subject) for p in _list(claims["allow"]))


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else []


def subjects(run: str = "r1") -> list[str]:
    """One subject of every kind; those of a role for every role."""
    found = []
    for event_type in PAYLOADS:
        kind = kind_of(event_type)
        if kind == "step.assigned":
            found += [subject_for(run, event_type, role, "normal") for role in ROLES]
        elif kind in ROLE_KINDS:
            found += [subject_for(run, event_type, role) for role in ROLES]
        elif kind in KEY_KINDS:
            found.append(subject_for(run, event_type, KEY))
        else:
            found.append(subject_for(run, event_type))
    return found


@pytest.mark.parametrize("role", [*ROLES, "stranger", "", "*", ">", "coder.x"])
def test_sender_receiver_and_broker_agree(role: str) -> None:
    permissions = POLICY.permissions(role, KEY)
    for subject in subjects():
        allowed = POLICY.refusal(role, parse(subject)) is None
        assert broker_allows(permissions, subject) == allowed, subject


@pytest.mark.parametrize("role", ["stranger", "", "*", ">", "coder.x", "CODER"])
def test_an_unknown_role_may_do_nothing(role: str) -> None:
    claims = POLICY.permissions(role, KEY).as_claims()
    assert claims == {"pub": {"deny": [">"]}, "sub": {"deny": [">"]}}
    for subject in subjects():
        assert "no capabilities" in str(POLICY.refusal(role, parse(subject)))


@pytest.mark.parametrize("role", WORKERS)
def test_a_worker_may_say_six_things_of_its_own_steps_and_five_of_itself(role: str) -> None:
    allowed = {s for s in subjects() if POLICY.refusal(role, parse(s)) is None}
    assert allowed == {
        subject_for("r1", f"swarm.{kind}.v1", role)
        for kind in (
            *("step.claimed", "step.completed", "step.failed", "assignment.dead"),
            *("tool.called", "tool.answered"),
        )
    } | {
        subject_for("r1", f"swarm.{kind}.v1")
        for kind in (
            *("event.refused", "agent.started", "agent.stopped"),
            *("memory.written", "memory.deleted"),
        )
    }


@given(
    st.sampled_from(WORKERS),
    st.sampled_from(WORKERS),
    st.sampled_from(["claimed", "completed", "failed", "assigned"]),
    TOKENS,
)
def test_no_worker_publishes_on_the_subject_of_another_role(
    role: str, other: str, verb: str, run: str
) -> None:
    suffix = (other, "normal") if verb == "assigned" else (other,)
    subject = subject_for(run, f"swarm.step.{verb}.v1", *suffix)
    allowed = broker_allows(POLICY.permissions(role, KEY), subject)
    assert allowed == (role == other and verb != "assigned")


@given(st.sampled_from(ROLES), st.lists(TOKENS, min_size=2, max_size=5))
def test_no_other_subject_of_the_log_is_allowed(role: str, tokens: list[str]) -> None:
    subject = ".".join(("evt", "00", "r1", *tokens))
    parsed = Subject(partition="00", run="r1", kind=".".join(tokens[:2]), suffix=tuple(tokens[2:]))
    allowed = broker_allows(POLICY.permissions(role, KEY), subject)
    assert allowed == (POLICY.refusal(role, parsed) is None)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "request_",
    [
        f"STREAM.DELETE.{STREAM}",
        f"STREAM.DELETE.{OBJECTS}",
        f"STREAM.MSG.DELETE.{OBJECTS}",
        f"STREAM.MSG.DELETE.{STREAM}",
        f"STREAM.RESTORE.{STREAM}",
        f"STREAM.SNAPSHOT.{STREAM}",
        "STREAM.CREATE.OTHER",
        "ACCOUNT.PURGE.x",
        "CONSUMER.CREATE.OTHER.x",
        f"CONSUMER.PAUSE.{STREAM}.work-coder",
    ],
)
def test_nobody_may_remove_what_is_stored(role: str, request_: str) -> None:
    assert not broker_allows(POLICY.permissions(role, KEY), f"$JS.API.{request_}")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("other", WORKERS)
def test_a_queue_is_for_its_own_role(role: str, other: str) -> None:
    permissions = POLICY.permissions(role, KEY)
    queue = queue_name(other)
    takes = broker_allows(permissions, f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{queue}")
    acks = broker_allows(permissions, f"$JS.ACK.{STREAM}.{queue}.1.2.3.4.0")
    removes = broker_allows(permissions, f"$JS.API.CONSUMER.DELETE.{STREAM}.{queue}")
    changes = broker_allows(permissions, f"$JS.API.CONSUMER.CREATE.{STREAM}.{queue}.evt.>")
    if role == "launcher":
        assert changes
        assert not acks
        return
    assert (takes, acks, removes, changes) == (role == other, role == other, False, False)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_listens_on_its_own_inbox_only(role: str) -> None:
    (inbox,) = POLICY.permissions(role, KEY).subscribe
    own = "_INBOX.>" if role == "observer" else f"{inbox_prefix(KEY)}.>"
    assert inbox == own
    assert KEY in inbox or role == "observer"


def test_only_the_launcher_provisions_and_only_readers_make_consumers() -> None:
    def may(request: str) -> set[str]:
        return {r for r in ROLES if broker_allows(POLICY.permissions(r, KEY), f"$JS.API.{request}")}

    assert may(f"STREAM.CREATE.{STREAM}") == {"launcher"}
    for stream in (STREAM, OBJECTS):
        assert may(f"STREAM.UPDATE.{stream}") == {"launcher"}
        assert may(f"STREAM.PURGE.{stream}") == {"launcher"}
    readers = {"gateway", "coordinator", "auditor", "observer"}
    assert may(f"CONSUMER.CREATE.{STREAM}.read-x.evt.>") == {*readers, "launcher"}
    assert may(f"CONSUMER.MSG.NEXT.{STREAM}.read-x") == readers


@pytest.mark.parametrize(
    "request_",
    [
        f"CONSUMER.CREATE.{STREAM}",  # the name is in the body: of any queue
        f"CONSUMER.DURABLE.CREATE.{STREAM}.x",
        f"CONSUMER.DELETE.{STREAM}.read-x",
    ],
)
def test_nobody_makes_a_consumer_without_naming_it_or_removes_one(request_: str) -> None:
    for role in ROLES:
        assert not broker_allows(POLICY.permissions(role, KEY), f"$JS.API.{request_}"), role


def test_who_publishes_events_puts_objects_under_its_own_key() -> None:
    other = "U" + "B" * 55
    for role in ROLES:
        permissions = POLICY.permissions(role, KEY)
        publishes = any(POLICY.refusal(role, parse(subject)) is None for subject in subjects())
        assert broker_allows(permissions, chunk_subject("r1", KEY, "0" * 64, 0)) == publishes
        assert not broker_allows(permissions, chunk_subject("r1", other, "0" * 64, 0))
        assert broker_allows(permissions, f"$JS.API.DIRECT.GET.{OBJECTS}.obj.r1.{other}.x.0")


def test_the_document_is_canonical_json_and_the_digest_is_of_its_bytes() -> None:
    policy = Capabilities(b"version: 1\nroles: {b: {work: true}, a: {publish: [x.y, a.b, x.y]}}\n")
    told = json.loads(policy.document)
    assert policy.document == json.dumps(
        told, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    assert policy.digest == hashlib.sha256(policy.document.encode()).hexdigest()
    assert told["version"] == 1
    assert told["roles"]["a"]["publish"] == ["a.b", "x.y"]


def test_how_a_bundle_is_written_makes_no_other_digest() -> None:
    one = b"version: 1\nroles:\n  a: {publish: [a.b, c.d]}\n  b: {work: true}\n"
    other = b"# said otherwise\nroles: {b: {work: true}, a: {publish: [c.d, a.b]}}\nversion: 1\n"
    assert Capabilities(one).digest == Capabilities(other).digest
    assert Capabilities(one).digest != Capabilities(one.replace(b"c.d", b"c.e")).digest


def test_the_document_is_a_bundle_that_makes_the_same_document() -> None:
    policy = Capabilities.shipped(["poet", "true"])
    assert Capabilities(policy.document.encode()).document == policy.document


def test_an_empty_bundle_allows_nothing() -> None:
    policy = Capabilities(b"version: 1\nroles: {}\n")
    assert policy.worker_roles == ()
    assert all(policy.refusal(role, parse(s)) for role in ROLES for s in subjects())


@pytest.mark.parametrize(
    "source",
    [
        b"",
        b"\xff",
        b"[1, 2]",
        b"version: 1",
        b"version: 2\nroles: {}",  # a version that this code does not know
        b"version: 1\nroles: {coder: {publsh: [a.b]}}",  # misspelt: would deny silently
        b"version: 1\nroles: {coder: {publish: ['step.>']}}",  # the receiver has no such wildcard
        b"version: 1\nroles: {coder: {publish: ['>']}}",
        b"version: 1\nroles: {coder: {publish: ['*.*']}}",  # every kind
        b"version: 1\nroles: {coder: {publish: ['step.cla*']}}",  # not a wildcard to NATS
        b"version: 1\nroles: {coder: {publish: ['step. claimed']}}",
        b"version: 1\nroles: {coder: {publish: ['']}}",
        b"version: 1\nroles: {'*': {publish: ['step.claimed.{role}']}}",  # role or wildcard?
        b"version: 1\nroles: {'a.b': {work: true}}",
        b"!!python/object/apply:os.getcwd []",
        b"version: 1\nroles: {a: {}, a: {work: true}}",  # which of the two?
        b"version: 1\nroles: {a: {work: 'yes'}}",
        b"version: 1\nroles: {a: {spend: {tokens_per_run: true}}}",
        b"version: 1\nroles: {a: {spend: {tokens_per_run: -1}}}",
        b"version: 1\nroles: {a: {spend: {tokens_per_run: lots}}}",
        b"version: 1\nroles: {a: {call: {models: ['smol*']}}}",
        b"version: 1\nroles: {a: {memory: {write: ['run/../**']}}}",
        b"version: 1\nroles: {a: {memory: {write: ['**/x']}}}",
        b"version: 1\nroles: &a {a: *a}",  # endless
        b"x" * 200_001,
    ],
)
def test_a_bundle_of_another_form_is_not_usable(source: bytes) -> None:
    with pytest.raises(PolicyNotUsable):
        Capabilities(source)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (b"version: 1\nroles:\n  coder:\n    publsh: [a.b]", "line 4: roles.coder.publsh"),
        (b"version: 1\nroles:\n  a:\n    publish:\n    - a.b\n    - '>'", "line 6: .*'>' is not"),
        (b"version: 1\nroles:\n  a: {}\n  a: {}", "line 4: 'a' is said twice"),
        (b"version: 1\nroles:\n  a:\n    spend: {tokens_per_run: x}", "line 4: .*unlimited"),
        (b"version: 1\nroles: {\n", "line 3"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(source: bytes, told: str) -> None:
    with pytest.raises(PolicyNotUsable, match=told):
        Capabilities(source)


def test_a_role_calls_spends_and_remembers_nothing_that_is_not_said() -> None:
    policy = Capabilities(b"version: 1\nroles: {a: {}}")
    for role in ("a", "stranger"):
        assert policy.call_refusal(role, "model", "any")
        assert policy.call_refusal(role, "tool", "any")
        assert policy.consumption_refusal(role, "work")
        assert policy.consumption_refusal(role, "read")
        assert policy.memory_refusal(role, "read", "shared/x")
        assert policy.memory_refusal(role, "write", "shared/x")
        assert policy.spend(role) == Spend()
    assert Spend().tokens_per_run == Spend().requests_per_minute == Spend().cost_per_run == 0


@pytest.mark.parametrize(
    ("rule", "namespace", "covered"),
    [
        ("shared/**", "shared/a", True),
        ("shared/**", "shared/a/b", True),
        ("shared/**", "shared", False),
        ("shared/*", "shared/a", True),
        ("shared/*", "shared/a/b", False),
        ("**", "anything/at/all", True),
        ("run/{run}/**", "run/r1/plan", True),
        ("run/{run}/**", "run/r2/plan", False),
        ("role/{role}/*", "role/coder/x", True),
        ("role/{role}/*", "role/judge/x", False),
        ("**", "run/../secret", False),
        ("**", "", False),
        ("shared/**", "shared//x", False),
    ],
)
def test_a_namespace_is_covered_by_its_parts(rule: str, namespace: str, *, covered: bool) -> None:
    source = f"version: 1\nroles: {{coder: {{memory: {{read: ['{rule}']}}}}}}"
    refusal = Capabilities(source.encode()).memory_refusal("coder", "read", namespace, run="r1")
    assert (refusal is None) == covered
    assert Capabilities(source.encode()).memory_refusal("coder", "write", namespace, run="r1")
