"""The envelope: nothing in it can change unseen, nothing in it is spelt in two ways."""

from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import unquote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from bus.attributes import encode_attribute
from bus.errors import MalformedEvent, UntrustedEvent
from bus.event import (
    DOMAIN,
    SIGNATURE_HEADER,
    Event,
    derive_id,
    pre_authentication_encoding,
    signing_input,
)
from bus.nkey import AgentKey
from bus.payloads import PAYLOADS
from bus.signing import Sender
from bus.trust import verify
from tests.sending import POLICY, admitted, credential_of, submitted

KEY = AgentKey.generate()
SENDER = Sender(KEY, credential_of("gateway", "gateway-1", KEY, ttl_s=86_400), POLICY)
"""Its credential outlasts a suite that takes long to come here."""
ADMITTED = admitted(SENDER)
INTACT = SENDER.sign(submitted("r1", by="Zoë Müller"))
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def accepted(subject: str, headers: dict[str, str], data: bytes) -> bool:
    """Whether a receiver would act on it."""
    try:
        event = Event.parse(subject, headers, data)
        verify(event, ADMITTED, POLICY, stream_sequence=2, stored_at=datetime.now(UTC))
        event.payload()
    except (MalformedEvent, UntrustedEvent):
        return False
    return True


def changed(text: str, position: int, other: str) -> str:
    place = position % len(text)
    assume(text[place] != other)
    return text[:place] + other + text[place + 1 :]


def test_the_intact_event_is_accepted() -> None:
    assert accepted(INTACT.subject, dict(INTACT.headers), INTACT.data)


@given(st.integers(min_value=0), st.characters(codec="utf-8"))
def test_a_changed_character_of_the_subject_is_refused(position: int, other: str) -> None:
    subject = changed(INTACT.subject, position, other)
    assert not accepted(subject, dict(INTACT.headers), INTACT.data)


@given(st.sampled_from(sorted(INTACT.headers)), st.integers(min_value=0), st.characters())
@example("ce-onbehalfof", 2, "\ud800")
def test_a_changed_character_of_a_header_is_refused(name: str, position: int, other: str) -> None:
    headers = {**INTACT.headers, name: changed(INTACT.headers[name], position, other)}
    assert not accepted(INTACT.subject, headers, INTACT.data)


@given(st.sampled_from(sorted(INTACT.headers)), st.integers(min_value=0), st.characters())
@example("ce-onbehalfof", 12, "\ud800")
def test_a_changed_character_of_a_header_name_is_refused(
    name: str, position: int, other: str
) -> None:
    headers = {
        (changed(name, position, other) if n == name else n): value
        for n, value in INTACT.headers.items()
    }
    assert not accepted(INTACT.subject, headers, INTACT.data)


@given(st.integers(min_value=0), st.integers(1, 255))
def test_a_changed_byte_of_the_data_is_refused(position: int, flip: int) -> None:
    data = bytearray(INTACT.data)
    data[position % len(data)] ^= flip
    assert not accepted(INTACT.subject, dict(INTACT.headers), bytes(data))


@given(st.integers(0, 64), st.binary(max_size=8))
def test_cut_or_grown_data_is_refused(cut: int, more: bytes) -> None:
    data = INTACT.data[: len(INTACT.data) - cut] + more
    assume(data != INTACT.data)
    assert not accepted(INTACT.subject, dict(INTACT.headers), data)


@given(st.sampled_from(sorted(INTACT.headers)))
def test_a_missing_header_is_refused(name: str) -> None:
    headers = {n: value for n, value in INTACT.headers.items() if n != name}
    assert not accepted(INTACT.subject, headers, INTACT.data)


@given(st.from_regex(r"ce-[a-z0-9]{1,20}", fullmatch=True), TEXT)
def test_an_added_attribute_is_refused(name: str, value: str) -> None:
    assume(name not in INTACT.headers)
    assert not accepted(INTACT.subject, {**INTACT.headers, name: value}, INTACT.data)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CE-Id", "another"),
        ("Ce-type", "swarm.run.failed.v1"),
        ("Traceparent", "00-" + "1" * 32 + "-" + "2" * 16 + "-01"),
        ("Swarm-Key", "U" + "A" * 55),
    ],
)
def test_an_attribute_in_another_case_is_refused(name: str, value: str) -> None:
    """A reader that ignores case would see it; the signature would not cover it."""
    assert not accepted(INTACT.subject, {**INTACT.headers, name: value}, INTACT.data)


@given(st.text(st.sampled_from(" \t\r\n\x00\x7fé"), min_size=1, max_size=3))
def test_a_header_with_bytes_that_are_not_printable_is_refused(junk: str) -> None:
    value = INTACT.headers["ce-id"]
    headers = {**INTACT.headers, "ce-id": value + junk}
    assert not accepted(INTACT.subject, headers, INTACT.data)
    headers = {**INTACT.headers, "ce-id": junk + value}
    assert not accepted(INTACT.subject, headers, INTACT.data)


@given(
    st.dictionaries(
        st.text(st.characters(codec="ascii"), min_size=1, max_size=12).filter(
            lambda name: not name.lower().startswith(("ce-", "swarm-", "traceparent"))
        ),
        TEXT,
    )
)
def test_headers_of_the_transport_change_nothing(extra: dict[str, str]) -> None:
    parsed = Event.parse(INTACT.subject, {**extra, **INTACT.headers}, INTACT.data)
    assert parsed == INTACT
    assert parsed.digest == INTACT.digest


@given(
    run=st.from_regex(r"r[0-9a-z]{20}", fullmatch=True),
    objective=TEXT.filter(lambda text: 0 < len(text) <= 200),
    by=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=128),
)
def test_what_is_signed_is_parsed_back(run: str, objective: str, by: str) -> None:
    draft = submitted(run, objective, by)
    event = SENDER.sign(draft)
    again = Event.parse(event.subject, dict(event.headers), event.data)
    assert again == event
    assert (again.run, again.id, again.on_behalf_of) == (run, draft.id, by)
    assert again.payload() == draft.payload
    assert accepted(event.subject, dict(event.headers), event.data)


@given(
    st.sampled_from(["\0", "\n", "\x1f", "\x7f", "x" * 128]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
)
def test_a_person_whom_no_database_could_hold_is_not_parsed(odd: str, more: str) -> None:
    by = odd + more + "y"
    event = SENDER.sign(submitted("r1", by=by))
    with pytest.raises(MalformedEvent, match="ce-onbehalfof"):
        Event.parse(event.subject, dict(event.headers), event.data)


@given(TEXT)
def test_percent_encoding_round_trips_in_printable_ascii(text: str) -> None:
    encoded = encode_attribute(text)
    assert unquote(encoded) == text
    assert all("!" <= character <= "~" and character != '"' for character in encoded)


@given(
    st.lists(st.binary(max_size=8), max_size=5),
    st.lists(st.binary(max_size=8), max_size=5),
)
def test_different_fields_never_encode_alike(one: list[bytes], other: list[bytes]) -> None:
    assume(one != other)
    assert pre_authentication_encoding(*one) != pre_authentication_encoding(*other)


@given(st.lists(st.binary(max_size=6).map(lambda b: b + b" 1 "), min_size=2, max_size=4))
def test_moving_a_boundary_changes_the_encoding(fields: list[bytes]) -> None:
    joined = [b"".join(fields[:2]), *fields[2:]]
    moved = [fields[0] + fields[1][:1], fields[1][1:], *fields[2:]]
    encodings = {pre_authentication_encoding(*f) for f in (fields, joined, moved)}
    assert len(encodings) == 3


@given(st.lists(TEXT, max_size=4), st.lists(TEXT, max_size=4))
def test_an_id_tells_its_parts_apart(one: list[str], other: list[str]) -> None:
    assert derive_id(*one) == derive_id(*one)
    assert len(derive_id(*one)) == 32
    assert (derive_id(*one) == derive_id(*other)) == (one == other)


def test_an_id_is_the_same_in_every_release() -> None:
    """Ids of stored events depend on it."""
    assert derive_id("step.assigned", "r1", "code") == "c08bc327a9853e461ff0996bbcb2a136"


@given(st.permutations(sorted(INTACT.headers)))
def test_the_order_of_headers_does_not_matter(order: list[str]) -> None:
    headers = {name: INTACT.headers[name] for name in order}
    assert signing_input(INTACT.subject, headers, INTACT.data) == INTACT.signed_bytes


def test_the_signature_and_key_are_not_signed_but_all_else_is() -> None:
    for name in INTACT.headers:
        without = {n: v for n, v in INTACT.headers.items() if n != name}
        same = signing_input(INTACT.subject, without, INTACT.data) == INTACT.signed_bytes
        assert same == name.startswith("swarm-")
    assert INTACT.signed_bytes.split(b" ", 1)[1].startswith(f"{len(DOMAIN)} {DOMAIN} ".encode())


def test_a_signature_for_one_event_does_not_fit_another() -> None:
    other = SENDER.sign(submitted("r1", "another"))
    headers = {**other.headers, SIGNATURE_HEADER: INTACT.headers[SIGNATURE_HEADER]}
    assert not accepted(other.subject, headers, other.data)


@given(st.sampled_from(sorted(PAYLOADS)), st.binary(max_size=200))
def test_arbitrary_data_never_raises_anything_but_a_malformed_event(
    event_type: str, data: bytes
) -> None:
    headers = {**INTACT.headers, "ce-type": event_type}
    with pytest.raises(MalformedEvent):
        Event.parse(INTACT.subject, headers, data).payload()


def test_deeply_nested_data_is_a_malformed_event() -> None:
    data = b'{"answer":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with pytest.raises(MalformedEvent):
        Event.parse(INTACT.subject, dict(INTACT.headers), data).payload()


@given(st.text(max_size=40) | st.datetimes().map(datetime.isoformat))
def test_any_time_is_read_or_malformed(text: str) -> None:
    headers = {
        **INTACT.headers,
        "ce-time": encode_attribute(text.encode(errors="replace").decode()),
    }
    try:
        event = Event.parse(INTACT.subject, headers, INTACT.data)
    except MalformedEvent:
        return
    assert event.time.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "0001-01-01T00:00:00+23:59",  # before the first moment that UTC can express
        "9999-12-31T23:59:59-23:59",  # after the last one
        "2026-01-01T00:00:00",  # no offset
        "today",
    ],
)
def test_a_time_outside_utc_is_malformed(text: str) -> None:
    headers = {**INTACT.headers, "ce-time": encode_attribute(text)}
    with pytest.raises(MalformedEvent, match="ce-time"):
        Event.parse(INTACT.subject, headers, INTACT.data)


@given(
    subject=st.text(max_size=20),
    headers=st.dictionaries(st.text(max_size=8).map("ce-".__add__), st.text(max_size=20)),
    data=st.binary(max_size=20),
)
def test_plain_and_other_text_are_encoded_alike(
    subject: str, headers: dict[str, str], data: bytes
) -> None:
    fields = [DOMAIN, subject]
    for name in sorted(headers):
        fields += (name, headers[name])
    assert signing_input(subject, headers, data) == pre_authentication_encoding(
        *(field.encode() for field in fields), sha256(data).digest()
    )
