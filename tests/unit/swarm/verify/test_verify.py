"""What an evidence bundle shows, and what it does not: logs written by hand, event by event."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from nacl.signing import SigningKey

from bus.nkey import ACCOUNT, OPERATOR, AgentKey
from bus.subjects import SYSTEM_RUN, TRUST_RUN
from swarm.verify import NotProven, verify
from swarm.verify.record import read_event
from tests.evidence import (
    NOON,
    POLICY,
    RUN,
    Ledger,
    Member,
    begun,
    bytes_of,
    digest_of,
    document_of,
    forged,
    policy,
    rotated_root,
    small,
)

SUBMITTED = {"objective": "x"}


def adoption(document: str) -> dict[str, str]:
    return {"digest": digest_of(document), "document": document}


def refused(ledger: Ledger, why: str, **given: int) -> None:
    with pytest.raises(NotProven, match=why):
        verify(ledger.bundle(**given), ledger.operator.public)


def test_a_run_is_proven_with_its_senders_policy_and_place() -> None:
    ledger = small()
    proven = verify(ledger.bundle(), ledger.operator.public)
    assert (proven.run, proven.accepted, dict(proven.refused)) == (RUN, 3, {})
    assert sorted(proven.senders.values()) == ["coder/coder-1", "gateway/gateway-1"]
    assert (proven.keys, proven.policies) == (3, (digest_of(POLICY),))
    assert (proven.size, proven.log) == (10, "example.com/audit")
    assert (proven.first, proven.last) == (
        NOON + timedelta(seconds=4),
        NOON + timedelta(seconds=8),
    )


@pytest.mark.parametrize("size", [8, 9, 10])
def test_every_later_checkpoint_proves_it(size: int) -> None:
    ledger = small()
    assert verify(ledger.bundle(size=size), ledger.operator.public).size == size


def test_a_run_is_proven_at_every_place_of_a_growing_log() -> None:
    ledger, _, gateway, coder = begun()
    for number in range(24):
        cause = ledger.say(gateway, "run.submitted", run=f"r{number % 5}")
        ledger.say(coder, "step.claimed", run=f"r{number % 5}", suffix=("coder",), cause=cause)
        if number > 1:
            assert verify(ledger.bundle(), ledger.operator.public).size == len(ledger.records)


def test_refused_events_are_counted_and_prove_nothing_else() -> None:
    ledger, _, gateway, _ = begun()
    ledger.say(gateway, "run.submitted")
    stranger = Member("coder", "stranger")
    ledger.say(stranger, "step.claimed", suffix=("coder",), refused="unknown_key")
    proven = verify(ledger.bundle(), ledger.operator.public)
    assert (proven.accepted, dict(proven.refused)) == (1, {"unknown_key": 1})
    assert len(proven.senders) == 1


def test_a_payload_by_reference_comes_along() -> None:
    ledger, _, gateway, _ = begun()
    ledger.say(gateway, "run.submitted", content=b"large")
    assert verify(ledger.bundle(), ledger.operator.public).accepted == 1
    ledger.objects[4] = b"other"
    refused(ledger, r"leaf 3 \(stream sequence 4\): the object is not the one")
    del ledger.objects[4]
    refused(ledger, "object that the event refers to is missing")


def test_a_bundle_of_another_root_is_refused() -> None:
    with pytest.raises(NotProven, match="of another root"):
        verify(small().bundle(), AgentKey.generate(OPERATOR).public)
    with pytest.raises(NotProven, match="root key"):
        verify(small().bundle(), "Omy")


Spoil = Callable[[Ledger, Member, Member], object]


def _said_by(member: Callable[[Ledger, Member], Member]) -> Spoil:
    def spoil(ledger: Ledger, authority: Member, _: Member) -> None:
        ledger.say(member(ledger, authority), "step.claimed", suffix=("coder",))

    return spoil


def _say(**given: object) -> Spoil:
    def spoil(ledger: Ledger, _: Member, coder: Member) -> None:
        ledger.say(coder, "step.claimed", **{"suffix": ("coder",), **given})  # type: ignore[arg-type]

    return spoil


def _backdated(ledger: Ledger, authority: Member, _: Member) -> None:
    member = ledger.enrolled("coder", "x", authority, start=NOON - timedelta(days=2))
    signed_at = NOON - timedelta(days=1, hours=1)
    ledger.say(member, "step.claimed", suffix=("coder",), signed_at=signed_at)


ANOTHER = AgentKey.generate(ACCOUNT)

SPOILT = {
    "a key that nobody announced": (
        _said_by(lambda *_: Member("coder", "coder-9")),
        "no credential before it vouches",
    ),
    "a credential of another account": (
        _said_by(
            lambda ledger, authority: ledger.enrolled("coder", "x", authority, signer=ANOTHER)
        ),
        "no credential before it vouches",
    ),
    "a credential that had expired": (
        _said_by(
            lambda ledger, authority: ledger.enrolled(
                "coder", "x", authority, start=NOON - timedelta(days=2)
            )
        ),
        "no credential of the key .* covers",
    ),
    "an event backdated into the credential's life": (
        _backdated,
        "no credential of the key .* covers",
    ),
    "another name": (
        _say(change=lambda h: h.update({"ce-source": "swarm://coder/coder-2"})),
        "the sender says coder/coder-2",
    ),
    "another role": (
        _say(
            suffix=("critic",),
            change=lambda h: h.update({"ce-source": "swarm://critic/coder-1"}),
        ),
        "the sender says critic/coder-1",
    ),
    "a subject of another role": (_say(suffix=("critic",)), "subject of another role"),
    "a subject of another run": (
        _say(change=lambda h: h.update({"ce-run": "r2"})),
        "not that of the event's run and type",
    ),
    "a subject of another type": (
        _say(change=lambda h: h.update({"ce-type": "swarm.step.completed.v1"})),
        "not that of the event's run and type",
    ),
    "another partition": (_say(subject="evt.99.r1.step.claimed.coder"), "another partition"),
    "what the policy does not permit": (
        lambda ledger, _, coder: ledger.say(coder, "run.submitted"),
        "the policy does not let a coder publish",
    ),
    "a policy that nobody has": (
        _say(change=lambda h: h.update({"ce-policy": "0" * 64})),
        "no policy document has the digest",
    ),
    "a header too many": (
        _say(change=lambda h: h.update({"x-more": "1"})),
        "a header too many or too few",
    ),
    "a header too few": (_say(change=lambda h: h.pop("ce-id")), "a header too many or too few"),
    "too long headers": (
        _say(change=lambda h: h.update({"ce-more": "x" * 8_192})),
        "headers are too long",
    ),
    "an id that is none": (_say(change=lambda h: h.update({"ce-id": "%00"})), "ce-id is not a"),
    "too long an id": (_say(change=lambda h: h.update({"ce-id": "x" * 65})), "ce-id is not a"),
    "a cause that is none": (
        _say(change=lambda h: h.update({"ce-cause": "two%20words"})),
        "ce-cause is not a name",
    ),
    "a user with too long a name": (
        _say(change=lambda h: h.update({"ce-onbehalfof": "x" * 129})),
        "ce-onbehalfof is not a name",
    ),
    "no time": (_say(change=lambda h: h.update({"ce-time": "noon"})), "is not one"),
    "a time without an offset": (
        _say(change=lambda h: h.update({"ce-time": "2026-01-01T12:00:00"})),
        "has no offset",
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_an_accepted_event_that_must_not_be_acted_on_is_named(name: str) -> None:
    spoil, why = SPOILT[name]
    ledger, authority, gateway, coder = begun()
    ledger.say(gateway, "run.submitted", SUBMITTED)
    spoil(ledger, authority, coder)
    refused(ledger, rf"^leaf \d+ \(stream sequence \d+\): .*{why}")


def test_a_signature_by_another_key_is_refused_even_in_a_tree_that_fits() -> None:
    ledger = small()
    headers = dict(ledger.records[3].raw_headers)
    other = dict(ledger.records[7].raw_headers)
    headers["swarm-signature"] = other["swarm-signature"]
    spoilt = forged(ledger, 3, raw_headers=tuple(headers.items()))
    refused(spoilt, r"leaf 3 \(stream sequence 4\): the signature of U")


def test_data_that_was_changed_is_refused_even_in_a_tree_that_fits() -> None:
    refused(forged(small(), 3, data=b'{"objective": "z"}'), "leaf 3 .*: the signature of U")


def test_an_event_said_to_be_refused_shows_in_the_count() -> None:
    ledger = small()
    spoilt = forged(ledger, 7, verdict="refused", reason_code="bad_signature", reason="x")
    assert dict(verify(spoilt.bundle(), ledger.operator.public).refused) == {"bad_signature": 1}


@pytest.mark.parametrize(
    "envelope",
    [
        b"", b"x", b" ", b" -3 a", b" -2 ", b" +1 a", b" 01 a 1 0", b" 9 a", b" 1 a",
        b" 1 a 1 1", b" 1 a 1 0 1 b", b" 1 a" * 3, b" 99999999999999999999 a", b" 1 \xff 1 0",
        " \u0661 a 1 0".encode(),
    ],
)  # fmt: skip
@pytest.mark.timeout(5)
def test_bytes_that_are_no_envelope_of_an_event_are_refused(envelope: bytes) -> None:
    with pytest.raises(NotProven):
        read_event(envelope, b"{}")


# What one sender can do by itself is found, and takes nothing from the proof


def _repeated(ledger: Ledger, coder: Member) -> None:
    ledger.say(coder, "step.claimed", suffix=("coder",))
    record = replace(ledger.records[-1], stream_sequence=len(ledger.records) + 1)
    ledger.records.append(record)


def _forked(ledger: Ledger, coder: Member) -> None:
    ledger.say(coder, "step.claimed", suffix=("coder",), stay=True)
    ledger.say(coder, "step.claimed", suffix=("coder",))


def _late(ledger: Ledger, coder: Member) -> None:
    coder.sequence = 6
    ledger.say(coder, "step.claimed", suffix=("coder",))
    coder.sequence = 3
    ledger.say(coder, "step.claimed", suffix=("coder",))


def _unchained(ledger: Ledger, coder: Member) -> None:
    ledger.say(coder, "step.claimed", suffix=("coder",))
    coder.previous = "1" * 64
    ledger.say(coder, "step.claimed", suffix=("coder",))


def _uncaused(ledger: Ledger, coder: Member) -> None:
    ledger.say(coder, "step.claimed", suffix=("coder",), cause="run.submitted-4")
    ledger.say(coder, "step.claimed", suffix=("coder",), cause="nothing")


def _answers_itself(ledger: Ledger, coder: Member) -> None:
    ledger.say(coder, "step.claimed", suffix=("coder",))
    ledger.say(coder, "step.claimed", suffix=("coder",), cause="step.claimed-6")


FOUND = {
    "an event that stands twice": (_repeated, "it is the event of leaf 4 once more"),
    "a number that stands twice": (_forked, "leaf 4 is another event 1 of its sender"),
    "a number that is late": (_late, "it is event 4 of its sender, after 7"),
    "a chain that does not join": (_unchained, "it does not follow its sender's event before it"),
    "a cause that is not there": (
        _uncaused,
        "it answers an event that is not in the run before it",
    ),
    "a cause that is itself": (
        _answers_itself,
        "it answers an event that is not in the run before it",
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_a_sender_does_to_its_own_chain_is_found_and_the_run_stays_proven(name: str) -> None:
    do, what = FOUND[name]
    ledger, _, gateway, coder = begun()
    ledger.say(gateway, "run.submitted", SUBMITTED)
    do(ledger, coder)
    ledger.say(gateway, "run.submitted", SUBMITTED)
    proven = verify(ledger.bundle(), ledger.operator.public)
    assert proven.accepted == 4
    (found,) = proven.findings
    assert (found.index, found.stream_sequence) == (5, 6)
    assert (found.sender, found.key) == ("coder/coder-1", coder.key.public)
    assert found.what == what


def test_after_a_repeat_the_chain_goes_on_where_it_was() -> None:
    ledger, _, gateway, coder = begun()
    ledger.say(gateway, "run.submitted", SUBMITTED)
    _repeated(ledger, coder)
    ledger.say(coder, "step.claimed", suffix=("coder",))
    _forked(ledger, coder)
    proven = verify(ledger.bundle(), ledger.operator.public)
    assert [found.index for found in proven.findings] == [5, 8]


def test_whole_chains_of_which_a_part_is_shown_give_no_finding() -> None:
    ledger = small()
    assert verify(ledger.bundle(), ledger.operator.public).findings == ()


def test_an_event_of_trust_that_does_not_join_proves_nothing() -> None:
    """It changes whom to believe; only the authority may say it."""
    ledger, authority, gateway, _ = begun()
    ledger.say(gateway, "run.submitted")
    authority.sequence -= 1
    ledger.trust(authority, "policy.adopted", adoption(POLICY))
    refused(ledger, r"leaf 4 .*: it does not follow its sender's event before it")


def test_an_adoption_that_the_log_repeats_brings_no_older_policy_back() -> None:
    ledger, authority, gateway, _ = begun()
    newer = policy(authority=["identity.issued.*"], gateway=["run.submitted"])
    ledger.trust(authority, "policy.adopted", adoption(POLICY))
    first = ledger.records[-1]
    ledger.say(gateway, "run.submitted")
    ledger.trust(authority, "policy.adopted", adoption(newer))
    ledger.policy = digest_of(newer)
    ledger.say(gateway, "run.submitted")
    ledger.records.append(replace(first, stream_sequence=len(ledger.records) + 1))
    ledger.say(gateway, "run.submitted")
    proven = verify(ledger.bundle(), ledger.operator.public)
    assert proven.accepted == 3
    (found,) = proven.findings
    assert found.what == "it is the event of leaf 3 once more"
    ledger.policy = digest_of(POLICY)
    ledger.say(gateway, "run.submitted")
    refused(ledger, r"leaf 9 .*: the policy '\w+' is not the one in force")


def test_an_agent_that_repeats_itself_among_the_events_of_trust_spoils_no_proof() -> None:
    ledger, _, gateway, coder = begun()
    ledger.say(gateway, "run.submitted")
    ledger.trust(coder, "step.claimed", {}, ("coder",))
    ledger.records.append(replace(ledger.records[-1], stream_sequence=6))
    (found,) = verify(ledger.bundle(), ledger.operator.public).findings
    assert (found.index, found.sender) == (5, "coder/coder-1")


def test_an_announcement_that_is_repeated_spoils_no_proof() -> None:
    ledger, _, gateway, _ = begun()
    ledger.records.append(replace(ledger.records[1], stream_sequence=4))
    ledger.say(gateway, "run.submitted")
    (found,) = verify(ledger.bundle(), ledger.operator.public).findings
    assert (found.index, found.sender) == (3, "authority/authority-1")


# The run and the trust are whole


def test_a_leaf_of_the_run_that_is_left_out_is_missed() -> None:
    ledger = small()
    for at, why in (
        (3, "is number 1 of the run"),
        (4, "number 2 of the run"),
        (5, "does not|tail"),
    ):
        document = document_of(ledger.bundle())
        del document["leaves"][at]
        with pytest.raises(NotProven, match=why):
            verify(bytes_of(document), ledger.operator.public)


def test_a_leaf_of_the_run_cannot_hide_in_the_tail() -> None:
    ledger = small()
    document = document_of(ledger.bundle())
    whole = document["leaves"].pop()
    tail = ledger.events()[7].leaf
    bare = {name: whole[name] for name in document["tail"][0] if name in whole}
    digests = (tail.envelope_digest, tail.data_digest, tail.reason_digest)
    names = ("envelope_digest", "data_digest", "reason_digest")
    bare |= {name: digest.hex() for name, digest in zip(names, digests, strict=True)}
    document["tail"].insert(0, bare)
    with pytest.raises(NotProven, match="of the tail"):
        verify(bytes_of(document), ledger.operator.public)


def test_an_announcement_that_nobody_needs_is_refused() -> None:
    ledger, authority, gateway, _ = begun()
    ledger.say(gateway, "run.submitted")
    evidence = ledger.evidence()
    assert len(evidence.leaves) == 3
    ledger.say(ledger.enrolled("coder", "c", authority), "step.claimed", suffix=("coder",))
    document = document_of(ledger.bundle())
    assert verify(bytes_of(document), ledger.operator.public).keys == 3


def test_a_policy_that_nobody_obeys_is_refused() -> None:
    ledger = small()
    document = document_of(ledger.bundle())
    more = sorted([*document["policies"], policy(x=["a.b"])], key=digest_of)
    document["policies"] = more
    with pytest.raises(NotProven, match="no event here obeys"):
        verify(bytes_of(document), ledger.operator.public)


# What changes trust


def test_a_revoked_key_is_refused_whatever_time_it_claims() -> None:
    ledger, authority, gateway, coder = begun()
    ledger.say(gateway, "run.submitted")
    ledger.say(coder, "step.claimed", suffix=("coder",))
    key = coder.key.public
    ledger.trust(authority, "identity.revoked", {"public_key": key}, (key,))
    assert verify(ledger.bundle(), ledger.operator.public).accepted == 2
    ledger.say(coder, "step.claimed", suffix=("coder",), signed_at=NOON)
    refused(ledger, r"leaf 6 .*: the key U\w+ was revoked before")


def test_a_revocation_cannot_be_left_out() -> None:
    ledger, authority, _, coder = begun()
    key = coder.key.public
    ledger.trust(authority, "identity.revoked", {"public_key": key}, (key,))
    ledger.say(coder, "step.claimed", suffix=("coder",))
    document = document_of(ledger.bundle())
    document["leaves"] = [leaf for leaf in document["leaves"] if leaf["run"] != "trust"]
    with pytest.raises(NotProven, match="counts 1 leaves of trust before it, and 0 are here"):
        verify(bytes_of(document), ledger.operator.public)


def test_trust_that_changed_after_the_run_is_shown_as_well() -> None:
    ledger, authority, gateway, coder = begun()
    ledger.say(gateway, "run.submitted")
    key = coder.key.public
    ledger.trust(authority, "identity.revoked", {"public_key": key}, (key,))
    ledger.say(gateway, "run.submitted", run="r2")
    assert verify(ledger.bundle(), ledger.operator.public).accepted == 1
    document = document_of(ledger.bundle())
    document["leaves"] = [leaf for leaf in document["leaves"] if leaf["run"] != "trust"]
    with pytest.raises(NotProven, match="one of trust, and it is not shown whole"):
        verify(bytes_of(document), ledger.operator.public)


def test_only_the_authority_changes_trust() -> None:
    ledger, _, gateway, coder = begun()
    ledger.say(gateway, "run.submitted")
    key = coder.key.public
    ledger.trust(gateway, "identity.revoked", {"public_key": key}, (key,))
    refused(ledger, "the policy does not let a gateway publish evt.*identity.revoked")


def test_a_revocation_outside_the_run_of_trust_has_no_effect() -> None:
    ledger, authority, gateway, coder = begun()
    ledger.say(gateway, "run.submitted")
    key = coder.key.public
    ledger.say(authority, "identity.revoked", {"public_key": key}, suffix=(key,))
    refused(ledger, "the policy does not let a authority publish")


def test_after_a_rotation_the_old_signing_key_vouches_for_nobody_new() -> None:
    ledger, authority, gateway, coder = begun()
    ledger.say(gateway, "run.submitted")
    signing = AgentKey.generate(ACCOUNT)
    first = ledger.account_claims(ledger.account, ledger.operator, ledger.issuer, issued_at=1)
    ledger.trust(authority, "authority.rotated", {"account_jwt": first})
    ledger.issuer = signing
    token = ledger.account_claims(ledger.account, ledger.operator, signing, issued_at=2)
    ledger.trust(authority, "authority.rotated", {"account_jwt": token})
    ledger.say(coder, "step.claimed", suffix=("coder",))  # vouched for before
    fresh = ledger.enrolled("coder", "coder-2", authority, signer=signing)
    ledger.say(fresh, "step.claimed", suffix=("coder",))
    assert verify(ledger.bundle(), ledger.operator.public).accepted == 3
    other = AgentKey.generate(ACCOUNT)
    token = ledger.account_claims(ledger.account, ledger.operator, other, issued_at=3)
    ledger.trust(authority, "authority.rotated", {"account_jwt": token})
    late = ledger.enrolled("coder", "coder-3", authority)
    ledger.say(late, "step.claimed", suffix=("coder",))
    refused(ledger, "no credential before it vouches")


def _rotated(ledger: Ledger, authority: Member) -> tuple[AgentKey, AgentKey]:
    """Two signing keys, of which the second has just replaced the first."""
    old, new = AgentKey.generate(ACCOUNT), AgentKey.generate(ACCOUNT)
    for at, key in enumerate((old, new), start=1):
        token = ledger.account_claims(ledger.account, ledger.operator, key, issued_at=at)
        ledger.trust(authority, "authority.rotated", {"account_jwt": token})
    return old, new


def test_an_announcement_that_a_rotation_overtook_vouches_for_nobody() -> None:
    """It was under way when its signer was taken out; the member got another credential."""
    ledger, authority, gateway, coder = begun()
    ledger.say(gateway, "run.submitted")
    old, new = _rotated(ledger, authority)
    ledger.announce(coder, authority, signer=old)  # as at a renewal
    late = ledger.enrolled("coder", "coder-2", authority, signer=old)
    overtaken = len(ledger.records)
    ledger.announce(late, authority, signer=new)
    for member in (coder, late):
        ledger.say(member, "step.claimed", suffix=("coder",))
    assert verify(ledger.bundle(), ledger.operator.public).accepted == 3
    del ledger.records[overtaken:]
    late.sequence, late.previous = 0, "0" * 64
    ledger.say(late, "step.claimed", suffix=("coder",))
    refused(ledger, f"no credential before it vouches for the key {late.key.public}")


def test_an_announcement_does_not_count_before_one_that_does() -> None:
    ledger, authority, gateway, _ = begun()
    ledger.say(gateway, "run.submitted")
    old, new = _rotated(ledger, authority)
    late = ledger.enrolled("coder", "coder-2", authority, signer=old)
    ledger.say(late, "step.claimed", suffix=("coder",))
    ledger.announce(late, authority, signer=new)
    ledger.say(late, "step.claimed", suffix=("coder",))
    refused(ledger, f"leaf 7 .*: no credential before it vouches for the key {late.key.public}")


def test_an_authority_does_not_announce_itself_by_a_key_that_counts_no_more() -> None:
    ledger, authority, gateway, _ = begun()
    ledger.say(gateway, "run.submitted")
    old, new = _rotated(ledger, authority)
    another = Member("authority", "authority-2")
    ledger.announce(another, another, signer=old)
    late = ledger.enrolled("coder", "coder-2", another, signer=new)
    ledger.say(late, "step.claimed", suffix=("coder",))
    refused(ledger, f"leaf 6 .*: no credential before it vouches for the key {another.key.public}")


def test_an_announcement_that_vouches_for_nobody_is_one_of_its_key_nonetheless() -> None:
    """What is passed over shows nothing else: not that of another key, nor an unsigned one."""
    stranger = AgentKey.generate().public
    for changed, why in (
        ({"public_key": stranger}, "it announces a credential of another key"),
        ({"credential": "x.y"}, "the credential is not a JWT"),
        ({"credential": None}, "the credential"),
    ):
        ledger, authority, gateway, coder = begun()
        ledger.say(gateway, "run.submitted")
        old, _ = _rotated(ledger, authority)
        key = coder.key.public
        data = {"credential": ledger.credential(coder, signer=old), "public_key": key, **changed}
        ledger.say(authority, "identity.issued", data, run=SYSTEM_RUN, suffix=(key,))
        ledger.say(coder, "step.claimed", suffix=("coder",))
        refused(ledger, f"leaf 6 .*: .*{why}")


def test_an_account_that_was_replaced_does_not_return() -> None:
    ledger, authority, gateway, _ = begun()
    ledger.say(gateway, "run.submitted")
    for issued_at in (2, 1):
        token = ledger.account_claims(ledger.account, ledger.operator, issued_at=issued_at)
        ledger.trust(authority, "authority.rotated", {"account_jwt": token})
    refused(ledger, "leaf 5 .*: the account is another one, or not issued later")
    ledger.records.pop()
    token = ledger.account_claims(AgentKey.generate(ACCOUNT), ledger.operator, issued_at=9)
    ledger.trust(authority, "authority.rotated", {"account_jwt": token})
    refused(ledger, "leaf 5 .*: it does not follow|the account is another one")


def _told(ledger: Ledger, by: Member, kind: str, data: object, event_id: str) -> None:
    named = {"ce-id": event_id}
    ledger.say(by, kind, data, run=TRUST_RUN, change=lambda headers: headers.update(named))


def test_a_rotation_that_was_stored_again_changes_nothing() -> None:
    """The stream forgets ids: a change that was broken off for long may be told of twice."""
    ledger, authority, gateway, _ = begun()
    ledger.say(gateway, "run.submitted")
    signing, other = AgentKey.generate(ACCOUNT), AgentKey.generate(ACCOUNT)
    first, second = (
        {"account_jwt": ledger.account_claims(ledger.account, ledger.operator, key, issued_at=at)}
        for at, key in enumerate((signing, other), start=1)
    )
    for told, event_id in ((first, "a"), (first, "a"), (second, "b"), (first, "a")):
        _told(ledger, authority, "authority.rotated", told, event_id)
    fresh = ledger.enrolled("coder", "coder-2", authority, signer=other)
    ledger.say(fresh, "step.claimed", suffix=("coder",))
    new = AgentKey.generate(OPERATOR)
    token = ledger.account_claims(ledger.account, new, other, issued_at=3)
    rotated = rotated_root(ledger.operator, new, token)
    for _ in range(2):
        _told(ledger, authority, "root.rotated", rotated, "c")
    ledger.root = new
    for root in (ledger.operator, new):
        assert verify(ledger.bundle(), root.public).accepted == 2
    late = ledger.enrolled("coder", "coder-3", authority, signer=signing)
    ledger.say(late, "step.claimed", suffix=("coder",))
    refused(ledger, "no credential before it vouches")


@pytest.mark.parametrize("event_id", ["a", "b"])
def test_only_the_very_same_rotation_is_passed_over(event_id: str) -> None:
    ledger, authority, gateway, _ = begun()
    ledger.say(gateway, "run.submitted")
    told = {"account_jwt": ledger.account_claims(ledger.account, ledger.operator, issued_at=1)}
    _told(ledger, authority, "authority.rotated", told, "a")
    again = told | ({"reason": "x"} if event_id == "a" else {})
    _told(ledger, authority, "authority.rotated", again, event_id)
    refused(ledger, "leaf 5 .*: the account is another one, or not issued later")


def test_a_repeat_of_a_rotation_by_who_is_no_authority_is_not_passed_over() -> None:
    ledger, authority, gateway, _ = begun()
    ledger.say(gateway, "run.submitted")
    told = {"account_jwt": ledger.account_claims(ledger.account, ledger.operator, issued_at=1)}
    for by in (authority, gateway):
        _told(ledger, by, "authority.rotated", told, "a")
    refused(ledger, "the policy does not let a gateway publish evt.*authority.rotated")


def test_an_account_that_another_root_signed_is_not_taken() -> None:
    ledger, authority, gateway, _ = begun()
    ledger.say(gateway, "run.submitted")
    token = ledger.account_claims(ledger.account, AgentKey.generate(OPERATOR))
    ledger.trust(authority, "authority.rotated", {"account_jwt": token})
    refused(ledger, "the account's JWT is signed by")


def test_a_root_that_the_old_one_endorses_takes_over() -> None:
    ledger, authority, gateway, _ = begun()
    ledger.say(gateway, "run.submitted")
    new = AgentKey.generate(OPERATOR)
    token = ledger.account_claims(ledger.account, new, issued_at=1)
    rotated = rotated_root(ledger.operator, new, token)
    ledger.trust(authority, "root.rotated", rotated)
    ledger.root = new  # vouches for the log's key from here on
    ledger.say(ledger.enrolled("coder", "c", authority), "step.claimed", suffix=("coder",))
    for root in (ledger.operator, new):  # which says itself whom it follows
        assert verify(ledger.bundle(), root.public).accepted == 2
    with pytest.raises(NotProven, match="of another root"):
        verify(ledger.bundle(), AgentKey.generate(OPERATOR).public)


@pytest.mark.parametrize("acceptance", [None, "", "x", "A" * 86])
def test_a_root_that_does_not_say_whom_it_follows_proves_nothing_before_it(
    acceptance: str | None,
) -> None:
    ledger, authority, gateway, _ = begun()
    ledger.say(gateway, "run.submitted")
    new = AgentKey.generate(OPERATOR)
    token = ledger.account_claims(ledger.account, new, issued_at=1)
    told = rotated_root(ledger.operator, new, token)
    del told["acceptance"]
    ledger.trust(
        authority, "root.rotated", told | ({"acceptance": acceptance} if acceptance else {})
    )
    assert verify(ledger.bundle(), ledger.operator.public).accepted == 1
    with pytest.raises(NotProven, match="of another root"):
        verify(ledger.bundle(), new.public)


def test_a_root_that_the_old_one_does_not_endorse_does_not() -> None:
    new, stranger = AgentKey.generate(OPERATOR), AgentKey.generate(OPERATOR)
    for by, of in ((new, new), (stranger, new), (None, stranger)):
        ledger, authority, gateway, _ = begun()
        ledger.say(gateway, "run.submitted")
        token = ledger.account_claims(ledger.account, new, issued_at=1)
        told = rotated_root(ledger.operator, new, token)
        told["endorsement"] = rotated_root(by or ledger.operator, of, "")["endorsement"]
        ledger.trust(authority, "root.rotated", told)
        refused(ledger, r"leaf 4 .*: the signature of O")


def test_a_policy_is_in_force_from_its_adoption_to_the_next() -> None:
    ledger, authority, gateway, coder = begun()
    ledger.documents = ()
    ledger.trust(authority, "policy.adopted", {"digest": digest_of(POLICY), "document": POLICY})
    ledger.say(gateway, "run.submitted")
    narrow = policy(authority=["identity.issued.*"], gateway=["run.submitted"])
    adopted = {"digest": digest_of(narrow), "document": narrow}
    ledger.trust(authority, "policy.adopted", adopted)
    assert len(verify(ledger.bundle(), ledger.operator.public).policies) == 2
    ledger.say(coder, "step.claimed", suffix=("coder",))
    refused(ledger, "is not the one in force")
    ledger.records.pop()
    coder.sequence, coder.previous = 0, "0" * 64
    ledger.policy = digest_of(narrow)
    ledger.say(coder, "step.claimed", suffix=("coder",))
    refused(ledger, "the policy does not let a coder publish")


def test_an_adopted_document_must_have_the_digest_that_is_said() -> None:
    ledger, authority, gateway, _ = begun()
    ledger.say(gateway, "run.submitted")
    ledger.trust(authority, "policy.adopted", {"digest": "0" * 64, "document": POLICY})
    refused(ledger, "has another digest")


def test_a_renewed_credential_covers_what_the_first_no_longer_does() -> None:
    ledger, authority, gateway, _ = begun()
    ledger.say(gateway, "run.submitted")
    member = ledger.enrolled("coder", "c", authority, start=NOON - timedelta(days=2))
    ledger.announce(member, authority)
    ledger.say(member, "step.claimed", suffix=("coder",))
    assert verify(ledger.bundle(), ledger.operator.public).accepted == 2


# The log's key, and checkpoints that somebody holds


def test_a_checkpoint_by_a_key_that_the_root_did_not_vouch_for_is_refused() -> None:
    ledger = small()
    document = document_of(ledger.bundle())
    ledger.log = SigningKey.generate()
    document["checkpoint"] = ledger.checkpoint().note
    with pytest.raises(NotProven, match="not signed by the log's key"):
        verify(bytes_of(document), ledger.operator.public)
    ledger.root = AgentKey.generate(OPERATOR)
    document["log_key"] = ledger.log_key_jwt
    with pytest.raises(NotProven, match="no root here"):
        verify(bytes_of(document), ledger.operator.public)


def test_an_account_is_no_key_of_a_log() -> None:
    ledger = small()
    document = document_of(ledger.bundle())
    document["log_key"] = ledger.account_jwt
    with pytest.raises(NotProven, match="not one of a log's key"):
        verify(bytes_of(document), ledger.operator.public)


@pytest.mark.parametrize("old", [*range(1, 11)])
def test_the_log_continues_every_checkpoint_that_somebody_may_hold(old: int) -> None:
    ledger = small()
    note = ledger.checkpoint(old).note
    root = ledger.operator.public
    carried = ledger.bundle(since=old)
    assert verify(carried, root, old_checkpoint=note).extends == old
    proof = {"old": old, "new": 10, "proof": [h.hex() for h in ledger.consistency(old, 10)]}
    beside = json.dumps(proof).encode()
    assert verify(ledger.bundle(), root, old_checkpoint=note, consistency=beside).extends == old


def test_a_later_checkpoint_continues_the_log_of_the_bundle() -> None:
    ledger = small()
    proof = {"old": 8, "new": 10, "proof": [h.hex() for h in ledger.consistency(8, 10)]}
    proven = verify(
        ledger.bundle(size=8),
        ledger.operator.public,
        old_checkpoint=ledger.checkpoint().note,
        consistency=json.dumps(proof).encode(),
    )
    assert (proven.size, proven.extended_by, proven.extends) == (8, 10, None)


def test_without_a_proof_between_them_two_checkpoints_say_nothing() -> None:
    ledger = small()
    with pytest.raises(NotProven, match="swarm audit prove --old 4 --new 10"):
        verify(ledger.bundle(), ledger.operator.public, old_checkpoint=ledger.checkpoint(4).note)


def test_a_cosigned_checkpoint_may_be_held_but_not_stand_in_the_bundle() -> None:
    ledger = small()
    note = ledger.checkpoint().note
    cosigned = note + "\u2014 witness.example/w " + note.rpartition(" ")[2]
    root = ledger.operator.public
    assert verify(ledger.bundle(), root, old_checkpoint=cosigned).extends == 10
    document = document_of(ledger.bundle())
    document["checkpoint"] = cosigned
    with pytest.raises(NotProven, match="more signatures than can be checked"):
        verify(bytes_of(document), root)


def test_a_fork_signed_by_the_operators_own_key_is_refused_by_who_holds_a_checkpoint() -> None:
    ledger = small()
    root, held = ledger.operator.public, ledger.checkpoint(9).note
    fork = forged(ledger, 8, data=b"{}")
    assert verify(fork.bundle(), root).accepted == 3  # by itself there is nothing wrong with it
    with pytest.raises(NotProven, match="not the one that the bundle's proof begins at"):
        verify(fork.bundle(since=9), root, old_checkpoint=held)
    proof = {"old": 9, "new": 10, "proof": [h.hex() for h in fork.consistency(9, 10)]}
    beside, forked = json.dumps(proof).encode(), fork.bundle()
    with pytest.raises(NotProven, match="one of the two logs is a fork"):
        verify(forked, root, old_checkpoint=held, consistency=beside)
    with pytest.raises(NotProven, match="there are two trees of 9 leaves"):
        verify(fork.bundle(size=9), root, old_checkpoint=held)


def test_a_tail_cut_off_is_refused_by_who_holds_a_checkpoint() -> None:
    ledger = small()
    held = ledger.checkpoint().note
    shorter = Ledger(**{**_fields(ledger), "records": ledger.records[:9]})  # type: ignore[arg-type]
    shorter.account_jwt = ledger.account_jwt
    root = ledger.operator.public
    assert verify(shorter.bundle(), root).size == 9
    with pytest.raises(NotProven, match="no proof says that the logs of 9 and 10 leaves are one"):
        verify(shorter.bundle(), root, old_checkpoint=held)
    grown = replace(shorter.records[-1], stream_sequence=10, data=b"[]")
    shorter.records.append(grown)
    with pytest.raises(NotProven, match="there are two trees of 10 leaves"):
        verify(shorter.bundle(), root, old_checkpoint=held)


def _fields(ledger: Ledger) -> dict[str, object]:
    names = ("operator", "account", "log", "documents", "policy", "objects")
    return {name: getattr(ledger, name) for name in names}
