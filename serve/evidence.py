"""The evidence bundle as a document: what the log shows of a run, and what vouches for it. Pure.

docs/evidence.md describes it; swarm/verify reads it, and shares no code with this.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue, ValidationError

from bus import jwt
from bus.errors import IdentityError
from bus.subjects import TRUST_RUN, subject_for
from bus.trust_payloads import RootRotated
from storage.audit_reader import StoredCheckpoint
from storage.evidence import Evidence, ShownLeaf
from storage.leaf import Leaf, encode_envelope

FORMAT: Final = "vllm-swarm/evidence/v1"
_POLICY: Final = "ce-policy"
_ROOTS: Final = subject_for(TRUST_RUN, RootRotated.TYPE)

Json = str | int | None | Sequence["Json"] | Mapping[str, "Json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchors:
    """What an outsider checks the log against, beginning with the operator's public key.

    Attributes:
        operator: that key.
        account_jwt: the members' account at the beginning of the log, signed by it.
        log_key_jwt: the key that signs checkpoints, vouched for by the root of the last start.
        policies: documents that events may name by digest without one having been adopted.
    """

    operator: str
    account_jwt: str
    log_key_jwt: str
    policies: Sequence[str]


def bundle_of(evidence: Evidence, anchors: Anchors) -> bytes:
    """The bundle in its one serialisation."""
    growth = evidence.growth
    named = {
        dict(shown.event.record.raw_headers).get(_POLICY)
        for shown in evidence.leaves
        if shown.event.record.run == evidence.run and shown.event.record.verdict == "accepted"
    }
    by_digest = {hashlib.sha256(each.encode()).hexdigest(): each for each in anchors.policies}
    document: Json = {
        "format": FORMAT,
        "run": evidence.run,
        "operator": anchors.operator,
        "account": anchors.account_jwt,
        "log_key": _log_key(evidence, anchors.log_key_jwt),
        "checkpoint": own_note(evidence.checkpoint),
        "leaves": [_whole(shown) for shown in evidence.leaves],
        "edge": _hashes(evidence.edge),
        "tail": [_bare(leaf) for leaf in evidence.tail],
        "policies": [by_digest[digest] for digest in sorted(by_digest) if digest in named],
        "consistency": None
        if growth is None
        else {"checkpoint": own_note(growth.checkpoint), "proof": _hashes(growth.proof)},
    }
    text = json.dumps(document, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return f"{text}\n".encode("ascii")


def own_note(checkpoint: StoredCheckpoint) -> str:
    """The note under the log's own signature alone: what a bundle holds it must prove."""
    text, _, signatures = checkpoint.note.rpartition("\n\n")
    return f"{text}\n\n{signatures.splitlines()[0]}\n"


def _log_key(evidence: Evidence, at_start: str) -> str:
    """The word over the log's key by the last root of which the bundle tells.

    Else the one that was in force at the start, also where the checkpoint is older than that
    root. What is told once more counts where it stands first.
    """
    rotations = dict.fromkeys(
        shown.event.record.data
        for shown in evidence.leaves
        if shown.event.record.subject == _ROOTS and shown.event.record.verdict == "accepted"
    )
    if not rotations:
        return at_start
    with suppress(ValidationError, IdentityError):
        last = RootRotated.model_validate_json([*rotations][-1])
        told, known = jwt.decode(last.log_key_jwt), jwt.decode(at_start)
        if told["iss"] == last.operator and _key_in(told) == _key_in(known):
            return last.log_key_jwt
    return at_start


def _key_in(claims: jwt.Claims) -> tuple[JsonValue, ...]:
    """Which key is vouched for, by whomever and whenever."""
    return tuple(claims.get(name) for name in ("name", "sub", "nats"))


def _whole(shown: ShownLeaf) -> Json:
    record, leaf = shown.event.record, shown.event.leaf
    return {
        **_place(leaf),
        "index": shown.event.leaf_index,
        "reason": record.reason,
        "envelope": _base64(encode_envelope(record.subject, record.raw_headers)),
        "data": _base64(record.data),
        "object": None if shown.content is None else _base64(shown.content),
        "proof": _hashes(shown.proof),
    }


def _bare(leaf: Leaf) -> Json:
    return {
        **_place(leaf),
        "envelope_digest": leaf.envelope_digest.hex(),
        "data_digest": leaf.data_digest.hex(),
        "reason_digest": leaf.reason_digest.hex(),
    }


def _place(leaf: Leaf) -> Mapping[str, Json]:
    return {
        "stream_sequence": leaf.stream_sequence,
        "run": leaf.run,
        "run_index": leaf.run_index,
        "trust_count": leaf.trust_count,
        "stored_us": leaf.stored_us,
        "verdict": leaf.verdict,
        "reason_code": leaf.reason_code,
    }


def _hashes(hashes: Sequence[bytes]) -> list[str]:
    return [each.hex() for each in hashes]


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
