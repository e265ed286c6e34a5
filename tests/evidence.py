"""A log written by hand, event by event, and the evidence bundle that it gives."""

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from nacl.signing import SigningKey
from pydantic import JsonValue

from bus import jwt
from bus.event import pre_authentication_encoding, signing_input
from bus.nkey import ACCOUNT, OPERATOR, AgentKey, encode_base64url
from bus.subjects import SYSTEM_RUN, TRUST_RUN, partition_of
from serve.evidence import Anchors, bundle_of
from storage.audit_reader import StoredCheckpoint
from storage.audit_rows import AuditEvent
from storage.checkpoint import checkpoint_signer
from storage.evidence import Evidence, Growth, ShownLeaf
from storage.leaf import AuditRecord, encode_envelope, leaf_of
from storage.merkle import Frontier, consistency_proof, edge_nodes, inclusion_proof, leaf_hash
from storage.note import VerifierKey

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ORIGIN = "example.com/audit"
RUN = "r1"
DAY_S = 86_400


def policy(**publish: Sequence[str]) -> str:
    roles = {role: {"publish": list(patterns)} for role, patterns in publish.items()}
    return json.dumps({"roles": roles, "version": 1}, sort_keys=True, separators=(",", ":"))


POLICY = policy(
    authority=["identity.issued.*"],
    coder=["step.claimed.{role}", "step.completed.{role}"],
    gateway=["run.submitted"],
)


def digest_of(document: str) -> str:
    return hashlib.sha256(document.encode()).hexdigest()


@dataclass
class Member:
    """Who speaks: a key, what its credential says, and its chain."""

    role: str
    name: str
    key: AgentKey = field(default_factory=AgentKey.generate)
    sequence: int = 0
    previous: str = "0" * 64


@dataclass
class Ledger:
    """The log, with the keys of everybody in it."""

    operator: AgentKey = field(default_factory=lambda: AgentKey.generate(OPERATOR))
    account: AgentKey = field(default_factory=lambda: AgentKey.generate(ACCOUNT))
    log: SigningKey = field(default_factory=SigningKey.generate)
    documents: Sequence[str] = (POLICY,)
    policy: str = digest_of(POLICY)
    records: list[AuditRecord] = field(default_factory=list)
    objects: dict[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root = self.operator
        self.account_jwt = self.account_claims(self.account, self.operator)
        self.issuer = self.account

    def account_claims(
        self, account: AgentKey, by: AgentKey, *signing: AgentKey, issued_at: int = 0
    ) -> str:
        nats: dict[str, JsonValue] = {
            "type": "account",
            "version": 2,
            "signing_keys": [key.public for key in signing],
        }
        return jwt.encode({"name": "a", "sub": account.public, "iat": issued_at, "nats": nats}, by)

    @property
    def log_key_jwt(self) -> str:
        return self.log_key_by(self.root)

    def log_key_by(self, root: AgentKey) -> str:
        key = VerifierKey(name=ORIGIN, public_key=self.log.verify_key.encode())
        nats: dict[str, JsonValue] = {"type": "generic", "version": 2, "tags": ["log"]}
        claims: jwt.Claims = {"name": ORIGIN, "sub": str(key), "iat": 0, "nats": nats}
        return jwt.encode(claims, root)

    def credential(
        self, member: Member, *, start: datetime = NOON, life_s: int = DAY_S, signer: Any = None
    ) -> str:
        issued = int(start.timestamp())
        nats: dict[str, JsonValue] = {"type": "user", "version": 2, "tags": [f"role:{member.role}"]}
        nats["issuer_account"] = self.account.public
        claims: jwt.Claims = {
            "name": member.name,
            "sub": member.key.public,
            "iat": issued,
            "exp": issued + life_s,
            "nats": nats,
        }
        return jwt.encode(claims, signer or self.issuer)

    def announce(self, member: Member, by: Member, **credential: Any) -> Member:
        token = self.credential(member, **credential)
        data = {"credential": token, "public_key": member.key.public}
        self.say(by, "identity.issued", data, run=SYSTEM_RUN, suffix=(member.key.public,))
        return member

    def enrolled(self, role: str, name: str, by: Member, **credential: Any) -> Member:
        return self.announce(Member(role, name), by, **credential)

    def say(
        self,
        who: Member,
        kind: str,
        data: object = None,
        *,
        run: str = RUN,
        suffix: Sequence[str] = (),
        cause: str | None = None,
        signed_at: datetime | None = None,
        change: Callable[[dict[str, str]], None] | None = None,
        subject: str | None = None,
        content: bytes | None = None,
        refused: str = "",
        stay: bool = False,
    ) -> str:
        """Append an event; `change` may spoil its headers before they are signed."""
        sequence = len(self.records) + 1
        stored_at = NOON + timedelta(seconds=sequence)
        event_id = f"{kind}-{sequence}"
        raw = b"" if content is not None else json.dumps(data or {}).encode()
        headers = {
            "ce-specversion": "1.0",
            "ce-id": event_id,
            "ce-type": f"swarm.{kind}.v1",
            "ce-source": f"swarm://{who.role}/{who.name}",
            "ce-run": run,
            "ce-time": (signed_at or stored_at).isoformat(),
            "ce-policy": self.policy,
            "ce-datacontenttype": "application/json",
            "ce-dataschema": "urn:x",
            "ce-sequence": str(who.sequence + 1),
            "ce-previous": who.previous,
            "swarm-key": who.key.public,
        }
        if cause is not None:
            headers["ce-cause"] = cause
        if content is not None:
            digest = hashlib.sha256(content).hexdigest()
            headers["ce-dataref"] = f"swarm-object:sha256:{digest}:{len(content)}"
            self.objects[sequence] = content
        if change is not None:
            change(headers)
        subject = subject or ".".join(("evt", partition_of(run), run, kind, *suffix))
        signed = signing_input(subject, headers, raw)
        signature = who.key.sign(signed)
        headers["swarm-signature"] = encode_base64url(signature)
        if not stay:
            who.sequence += 1
            who.previous = hashlib.sha256(signed + signature).hexdigest()
        self.records.append(
            AuditRecord(
                stream_sequence=sequence,
                subject=subject,
                raw_headers=tuple(headers.items()),
                data=raw,
                verdict="refused" if refused else "accepted",
                reason_code=refused,
                reason="It was not to be." if refused else "",
                stored_at=stored_at,
                sender_key=None if refused else who.key.public,
            )
        )
        return event_id

    def trust(self, by: Member, kind: str, data: object, suffix: Sequence[str] = ()) -> None:
        self.say(by, kind, data, run=TRUST_RUN, suffix=suffix)

    def events(self) -> list[AuditEvent]:
        found = []
        for at, record in enumerate(self.records):
            before = [each.run for each in self.records[:at]]
            place = {"run_index": before.count(record.run), "trust_count": before.count(TRUST_RUN)}
            hashed = leaf_hash(leaf_of(record, **place).encode())
            found.append(AuditEvent(leaf_index=at, record=record, leaf_hash=hashed, **place))
        return found

    def checkpoint(self, size: int | None = None) -> StoredCheckpoint:
        events = self.events()[: len(self.records) if size is None else size]
        frontier, _ = Frontier().append(event.leaf_hash for event in events)
        note = checkpoint_signer(ORIGIN, self.log)(frontier.size, frontier.root())
        return StoredCheckpoint(size=frontier.size, root=frontier.root(), note=note, signed_at=NOON)

    def consistency(self, old: int, new: int) -> list[bytes]:
        nodes = self._nodes()
        return consistency_proof(old, new, lambda level, index: nodes[level, index])

    def inclusion(self, index: int, size: int) -> list[bytes]:
        nodes = self._nodes()
        return inclusion_proof(index, size, lambda level, row: nodes[level, row])

    def evidence(self, *, size: int | None = None, since: int | None = None) -> Evidence:
        checkpoint, nodes = self.checkpoint(size), self._nodes()
        events = self.events()[: checkpoint.size]
        shown = [event for event in events if event.record.run in (RUN, TRUST_RUN)]
        last = max(event.leaf_index for event in shown if event.record.run == RUN)
        shown += self._announcements(events, shown)

        def proof(index: int) -> list[bytes]:
            return inclusion_proof(index, checkpoint.size, lambda at, row: nodes[at, row])

        return Evidence(
            run=RUN,
            checkpoint=checkpoint,
            leaves=[
                ShownLeaf(
                    event=event,
                    content=self.objects.get(event.record.stream_sequence),
                    proof=proof(event.leaf_index),
                )
                for event in sorted(shown, key=lambda event: event.leaf_index)
            ],
            edge=[nodes[at] for at in edge_nodes(last + 1)],
            tail=[event.leaf for event in events[last + 1 :]],
            growth=None
            if since is None
            else Growth(
                checkpoint=self.checkpoint(since), proof=self.consistency(since, checkpoint.size)
            ),
        )

    def anchors(self) -> Anchors:
        return Anchors(
            operator=self.operator.public,
            account_jwt=self.account_jwt,
            log_key_jwt=self.log_key_jwt,
            policies=self.documents,
        )

    def bundle(self, *, size: int | None = None, since: int | None = None) -> bytes:
        return bundle_of(self.evidence(size=size, since=since), self.anchors())

    def _announcements(
        self, events: Sequence[AuditEvent], shown: Sequence[AuditEvent]
    ) -> list[AuditEvent]:
        found: dict[int, AuditEvent] = {}
        keys = {event.record.sender_key for event in shown}
        while True:
            here = {
                event.leaf_index: event
                for event in events
                if event.record.run == SYSTEM_RUN
                and event.record.verdict == "accepted"
                and event.record.subject.rpartition(".")[2] in keys
            }
            if here.keys() == found.keys():
                return list(here.values())
            found = here
            keys |= {event.record.sender_key for event in here.values()}

    def _nodes(self) -> dict[tuple[int, int], bytes]:
        _, nodes = Frontier().append(event.leaf_hash for event in self.events())
        return {(node.level, node.index): node.hash for node in nodes}


def rotated_root(old: AgentKey, new: AgentKey, account_jwt: str, **more: str) -> dict[str, str]:
    statement = pre_authentication_encoding(
        b"vllm-swarm/root-rotation/v1", old.public.encode(), new.public.encode()
    )
    return {
        "operator": new.public,
        "endorsement": encode_base64url(old.sign(statement)),
        "acceptance": encode_base64url(new.sign(statement)),
        "account_jwt": account_jwt,
        "requested_by": "vic",
        **more,
    }


def begun(root: AgentKey | None = None) -> tuple[Ledger, Member, Member, Member]:
    """A log in which an authority has made itself, a gateway and a coder known."""
    ledger = Ledger(operator=root or AgentKey.generate(OPERATOR))
    authority = Member("authority", "authority-1")
    ledger.announce(authority, authority)
    gateway = ledger.enrolled("gateway", "gateway-1", authority)
    coder = ledger.enrolled("coder", "coder-1", authority)
    return ledger, authority, gateway, coder


def small() -> Ledger:
    """A run of three events, another run between and behind them."""
    ledger, _, gateway, coder = begun()
    submitted = ledger.say(gateway, "run.submitted", {"objective": "x"})
    other = ledger.say(gateway, "run.submitted", {"objective": "y"}, run="r2")
    claimed = ledger.say(coder, "step.claimed", suffix=("coder",), cause=submitted)
    ledger.say(coder, "step.claimed", run="r2", suffix=("coder",), cause=other)
    ledger.say(coder, "step.completed", suffix=("coder",), cause=claimed)
    ledger.say(gateway, "run.submitted", {"objective": "z"}, run="r3")
    ledger.say(gateway, "run.submitted", run="r3", refused="bad_signature")
    return ledger


def document_of(bundle: bytes) -> Any:
    return json.loads(bundle)


def bytes_of(document: Any) -> bytes:
    text = json.dumps(document, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return f"{text}\n".encode()


def forged(ledger: Ledger, at: int, **changes: Any) -> Ledger:
    """The same log with one record changed, and a tree that fits: the operator's own forgery."""
    records = list(ledger.records)
    records[at] = replace(records[at], **changes)
    copy = Ledger(
        operator=ledger.operator, account=ledger.account, log=ledger.log,
        documents=ledger.documents, policy=ledger.policy, records=records,
        objects=dict(ledger.objects),
    )  # fmt: skip
    copy.account_jwt, copy.root = ledger.account_jwt, ledger.root
    return copy


def envelope_base64(record: AuditRecord) -> str:
    return base64.b64encode(encode_envelope(record.subject, record.raw_headers)).decode()
