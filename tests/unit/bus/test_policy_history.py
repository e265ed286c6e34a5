"""Which policy is in force where: from its adoption to the next, and none before the first."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.errors import MalformedPolicy
from bus.payloads import PAYLOADS, PolicyAdopted
from bus.policy import PublishRules, digest_of
from bus.policy_history import FOUNDING, FOUNDING_TYPES, NotInForce, PolicyHistory
from bus.subjects import Subject, parse, subject_for
from policies.capabilities import Capabilities

SUBMITTED = parse(subject_for("r1", "swarm.run.submitted.v1"))


def adopted(number: int) -> PolicyAdopted:
    document = json.dumps({"version": 1, "roles": {"gateway": {"publish": ["run.submitted"]}}})
    document += " " * number  # another text: another digest
    return PolicyAdopted(digest=digest_of(document), document=document)


@given(st.dictionaries(st.integers(1, 50), st.integers(0, 4)), st.randoms(use_true_random=False))
def test_a_policy_is_in_force_behind_its_adoption_up_to_the_next(
    adoptions: dict[int, int], order: object
) -> None:
    history = PolicyHistory()
    for place in sorted(adoptions, key=lambda _: order.random()):  # type: ignore[attr-defined]
        for _ in range(2):
            history.adopt(place, adopted(adoptions[place]), event=f"e{place}")
    for place in range(52):
        before = [each for each in adoptions if each < place]
        expected = adopted(adoptions[max(before)]).digest if before else None
        found = history.in_force(place)
        assert (found.digest if found else None) == expected
        for number in range(6):
            digest = adopted(number).digest
            refusal = history.judge(place, digest).refusal("gateway", SUBMITTED)
            assert (refusal is None) == (digest == expected)


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=6),
    st.lists(st.integers(0, 5), max_size=6),
    st.randoms(use_true_random=False),
)
def test_an_adoption_that_is_repeated_brings_no_policy_back(
    policies: list[int], repeated: list[int], order: object
) -> None:
    """Wherever it stands once more, and whichever of the two is met first."""
    once = list(enumerate(policies, start=1))
    again = [(50 + at, number % len(policies)) for at, number in enumerate(repeated)]
    met = [(place, place) for place, _ in once] + [(at, number + 1) for at, number in again]
    history, alone = PolicyHistory(), PolicyHistory()
    for place, number in once:
        alone.adopt(place, adopted(number), event=f"e{place}")
    for place, event in sorted(met, key=lambda _: order.random()):  # type: ignore[attr-defined]
        history.adopt(place, adopted(policies[event - 1]), event=f"e{event}")
    for place in range(60):
        found, expected = history.in_force(place), alone.in_force(place)
        assert (found and found.digest) == (expected and expected.digest)


def test_why_a_policy_does_not_count_is_told() -> None:
    history = PolicyHistory()
    old, new = adopted(0), adopted(1)
    assert "no policy was adopted before 5" in str(
        history.judge(5, old.digest).refusal("gateway", SUBMITTED)
    )
    history.adopt(5, old, event="e5")
    history.adopt(9, new, event="e9")
    assert "not in force there" in str(history.judge(10, old.digest).refusal("x", SUBMITTED))
    assert "not known" in str(history.judge(10, "0" * 64).refusal("x", SUBMITTED))


def test_a_document_that_is_not_the_one_named_is_not_adopted() -> None:
    history = PolicyHistory()
    with pytest.raises(MalformedPolicy):
        history.adopt(1, PolicyAdopted(digest="0" * 64, document=adopted(0).document), event="e1")
    assert history.in_force(2) is None
    assert isinstance(history.judge(2, "0" * 64), NotInForce)


@pytest.mark.parametrize(
    "document",
    [
        "",
        "[]",
        "{}",
        '{"version":2,"roles":{}}',
        '{"version":1,"roles":[]}',
        '{"version":1,"roles":{"a":[]}}',
        '{"version":1,"roles":{"a":{"publish":"x.y"}}}',
        '{"version":1,"roles":{"a":{"publish":[1]}}}',
        "[" * 100_000,
    ],
)
def test_a_document_of_another_form_is_not_read(document: str) -> None:
    with pytest.raises(MalformedPolicy):
        PublishRules(document)


def test_what_founds_trust_is_for_the_authority_alone_whatever_the_policy() -> None:
    for event_type in FOUNDING_TYPES & set(PAYLOADS):
        kind = event_type.removeprefix("swarm.").removesuffix(".v1")
        suffix = ("UKEY",) if kind.startswith("identity.") else ()
        subject = Subject(partition="00", run="trust", kind=kind, suffix=suffix)
        assert FOUNDING.refusal("authority", subject) is None
        for role in (*Capabilities.shipped().roles, "stranger"):
            assert role == "authority" or FOUNDING.refusal(role, subject)
    assert FOUNDING.refusal("authority", SUBMITTED)
    assert FOUNDING.refusal("authority", parse(subject_for("swarm", "swarm.agent.started.v1")))


def test_the_shipped_policy_lets_the_authority_found_trust() -> None:
    founding = json.loads(FOUNDING.document)["roles"]["authority"]["publish"]
    shipped = json.loads(Capabilities.shipped().document)["roles"]["authority"]["publish"]
    assert set(founding) <= set(shipped)
