"""The trust store against a plain model: any order of announcements, renewals, rotations,
revocations; every key judged at every place and moment."""

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import jwt
from bus.errors import IdentityError
from bus.identity import Credential
from bus.nkey import ACCOUNT, OPERATOR, AgentKey
from bus.ring import (
    Ring,
    first_ring,
    told,
    with_new_root,
    with_new_signing_key,
    without_old_signing_keys,
)
from bus.trust import TrustStore
from bus.trust_payloads import AuthorityRotated, IdentityRevoked, TrustChange

MEMBERS = [AgentKey.generate().public for _ in range(3)]
SIGNERS = [AgentKey.generate(ACCOUNT) for _ in range(4)]
ROOTS = [AgentKey.generate(OPERATOR) for _ in range(4)]
ACCOUNT_KEY, SYSTEM, LOG = (AgentKey.generate(ACCOUNT).public for _ in range(3))
ASKED = TrustChange(requested_by="vic")
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
LIFE = timedelta(hours=1)


def credential(member: str, signer: AgentKey, minute: int) -> Credential:
    issued = BEGIN + timedelta(minutes=minute)
    claims: jwt.Claims = {
        "name": "coder-1",
        "sub": member,
        "iat": int(issued.timestamp()),
        "exp": int((issued + LIFE).timestamp()),
        "nats": {
            "type": "user",
            "version": 2,
            "tags": ["role:coder"],
            "issuer_account": ACCOUNT_KEY,
        },
    }
    return Credential.parse(jwt.encode(claims, signer))


@dataclass
class Model:
    """What a person would say who reads the log from its beginning, each time anew."""

    signers: list[tuple[int, frozenset[str]]]
    announced: list[tuple[int, Credential]] = field(default_factory=list)
    revoked: list[tuple[int, str]] = field(default_factory=list)

    def signers_at(self, place: int) -> frozenset[str]:
        return [keys for since, keys in self.signers if since < place][-1]

    def verdict(self, member: str, place: int, moment: datetime) -> str:
        if any(at < place and key == member for at, key in self.revoked):
            return "revoked"
        known = [
            each
            for at, each in self.announced
            if at <= place and each.public_key == member and each.issuer in self.signers_at(at)
        ]
        if not known:
            return "unknown"
        return "good" if any(each.valid_at(moment) for each in known) else "expired"


def verdict(store: TrustStore, member: str, place: int, moment: datetime) -> str:
    known = store.find(member)
    if known is not None and known.is_revoked(place):
        return "revoked"
    if known is None or not known.known_at(place):
        return "unknown"
    return "good" if known.credential_for(place, moment, moment) else "expired"


@dataclass
class World:
    """A log that grows; the store learns of it in order, announcements by chance later."""

    ring: Ring
    store: TrustStore
    model: Model
    place: int = 1
    late: list[tuple[int, Credential]] = field(default_factory=list)

    @classmethod
    def begin(cls) -> "World":
        ring = first_ring(
            ROOTS[0], account=ACCOUNT_KEY, signing=SIGNERS[0].public, system=SYSTEM, log=LOG
        )
        store = TrustStore(ROOTS[0].public, ring.account_jwt)
        return cls(ring, store, Model([(0, ring.first.signers)]))

    @property
    def operator(self) -> AgentKey:
        return next(root for root in ROOTS if root.public == self.ring.operator)

    def announce(self, member: int, signer: int, minute: int, *, late: bool) -> None:
        made = credential(MEMBERS[member], SIGNERS[signer], minute)
        self.model.announced.append((self.place, made))
        self.late.append((self.place, made))
        if not late:
            self.look_up()

    def look_up(self) -> None:
        for place, made in self.late:
            admit(self.store, made, place)
        self.late.clear()

    def rotate(self, signer: int) -> None:
        key = SIGNERS[signer].public
        if key not in self.ring.signing:
            ring = with_new_signing_key(
                self.ring, self.operator, key, now=0, grace_s=60, change=ASKED
            )
            self._put(ring)

    def retire(self) -> None:
        self._put(
            without_old_signing_keys(self.ring, self.operator, now=0, change=ASKED, at_once=True)
        )

    def new_root(self, root: int) -> None:
        if ROOTS[root].public not in {self.ring.operator, self.ring.first.operator}:
            self._put(with_new_root(self.ring, self.operator, ROOTS[root], now=0, change=ASKED))

    def revoke(self, member: int) -> None:
        key = MEMBERS[member]
        payload = IdentityRevoked(role="coder", name="coder-1", public_key=key, requested_by="v")
        self.model.revoked.append((self.place, key))
        self.store.learn(payload, self.place)

    def _put(self, ring: Ring) -> None:
        for untold in ring.untold:
            self.store.learn(untold.payload, self.place)
            self.model.signers.append((self.place, signers_of(ring)))
            ring = told(ring, untold.id)
        self.ring = ring


def signers_of(ring: Ring) -> frozenset[str]:
    return frozenset({ring.account, *ring.signing})


OPERATIONS = st.one_of(
    st.tuples(
        st.just("announce"),
        st.integers(0, 2),
        st.integers(0, 3),
        st.integers(0, 120),
        st.booleans(),
    ),
    st.tuples(st.just("rotate"), st.integers(0, 3)),
    st.tuples(st.just("retire")),
    st.tuples(st.just("root"), st.integers(0, 3)),
    st.tuples(st.just("revoke"), st.integers(0, 2)),
    st.tuples(st.just("look up")),
)


@given(st.lists(OPERATIONS, max_size=14))
def test_the_verdict_is_that_of_a_plain_reading_from_the_beginning(
    operations: list[tuple[Any, ...]],
) -> None:
    world = World.begin()
    for name, *arguments in operations:
        match name:
            case "announce":
                member, signer, minute, late = arguments
                world.announce(member, signer, minute, late=late)
            case "rotate":
                world.rotate(*arguments)
            case "retire":
                world.retire()
            case "root":
                world.new_root(*arguments)
            case "revoke":
                world.revoke(*arguments)
            case _:
                world.look_up()
        world.place += 1
    world.look_up()
    for member in MEMBERS:
        for place in range(1, world.place + 1):
            for minute in range(-10, 190, 25):
                moment = BEGIN + timedelta(minutes=minute)
                told_by_model = world.model.verdict(member, place, moment)
                assert verdict(world.store, member, place, moment) == told_by_model


@given(st.lists(st.integers(1, 3), unique=True, min_size=1, max_size=3), st.integers(0, 3))
def test_a_line_of_roots_is_believed_from_whichever_root_is_trusted(
    successors: list[int], trusted: int
) -> None:
    world = World.begin()
    for root in successors:
        world.new_root(root)
        world.place += 1
    line = [ROOTS[0], *(ROOTS[each] for each in successors)]
    anchor = line[trusted % len(line)].public
    TrustStore(anchor, world.ring.first.jwt, world.ring.roots)
    stranger = AgentKey.generate(OPERATOR).public
    with pytest.raises(IdentityError):
        TrustStore(stranger, world.ring.first.jwt, world.ring.roots)


@pytest.mark.parametrize("forge", ["endorsement", "account", "operator", "repeat"])
def test_a_root_that_the_one_before_does_not_endorse_changes_nothing(forge: str) -> None:
    world = World.begin()
    ring = with_new_root(world.ring, ROOTS[0], ROOTS[1], now=0, change=ASKED)
    genuine = ring.roots[0]
    stranger = with_new_root(world.ring, ROOTS[2], ROOTS[1], now=0, change=ASKED).roots[0]
    forged = {
        "endorsement": genuine.model_copy(update={"endorsement": stranger.endorsement}),
        "account": genuine.model_copy(update={"account_jwt": world.ring.account_jwt}),
        "operator": genuine.model_copy(update={"operator": ROOTS[3].public}),
        "repeat": genuine,
    }[forge]
    if forge == "repeat":
        world.store.learn(genuine, 2)
    with pytest.raises(IdentityError):
        world.store.learn(forged, 3)


def test_an_earlier_account_does_not_come_back() -> None:
    """Or who holds a key that was taken out could put it in again."""
    world = World.begin()
    world.rotate(1)
    with_both = world.ring.account_jwt
    world.place = 5
    world.retire()
    with pytest.raises(IdentityError, match="later"):
        world.store.learn(AuthorityRotated(account_jwt=with_both, requested_by="v"), 9)


def admit(store: TrustStore, made: Credential, place: int) -> None:
    with suppress(IdentityError):
        store.admit(made.jwt, place)
