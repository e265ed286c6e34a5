"""The evidence bundle: one JSON document, read strictly. docs/evidence.md describes it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from swarm.verify.key import sha256
from swarm.verify.record import ACCEPTED, REFUSED, SYSTEM_RUN, TRUST_RUN, Leaf, Whole
from swarm.verify.text import (
    Json,
    NotProven,
    base64_bytes,
    digest,
    items,
    members,
    number,
    read_canonical,
    string,
)

FORMAT: Final = "vllm-swarm/evidence/v1"
_CODE = re.compile(r"[a-z0-9_]{0,64}", re.ASCII)
_RUN = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_PLACE: Final = ("stream_sequence", "run", "run_index", "trust_count", "stored_us")
_RULING: Final = ("verdict", "reason_code")


@dataclass(frozen=True, slots=True, kw_only=True)
class Consistency:
    """An earlier checkpoint's note, and the proof that the log begins with it."""

    note: str
    proof: Sequence[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What a bundle holds; nothing of it is believed yet.

    Attributes:
        run: whose evidence this is.
        operator: the root's public key; account its JWT over the members' account.
        log_key: a root's JWT over the key that signs checkpoints.
        checkpoint: a signed note.
        leaves: whole, in order: of the run, of trust, and announcements of keys.
        edge: the complete subtrees up to the run's last leaf.
        tail: the leaves after it, up to the checkpoint.
        policies: documents, by rising digest.
        consistency: with an earlier checkpoint, where that was asked for.
    """

    run: str
    operator: str
    account: str
    log_key: str
    checkpoint: str
    leaves: Sequence[Whole]
    edge: Sequence[bytes]
    tail: Sequence[Leaf]
    policies: Sequence[str]
    consistency: Consistency | None


def read_bundle(raw: bytes) -> Bundle:
    """Take a bundle apart.

    Raises:
        NotProven: it is not of the documented form, to the byte.
    """
    document = read_canonical(raw, "the bundle")
    form, run, operator, account, log_key, checkpoint, leaves, edge, tail, policies, consistency = (
        members(
            document, "the bundle", "format", "run", "operator", "account", "log_key",
            "checkpoint", "leaves", "edge", "tail", "policies", "consistency",
        )
    )  # fmt: skip
    if form != FORMAT:
        raise NotProven(f"the bundle is not of the format {FORMAT}")
    documents = [string(each, "a policy document") for each in items(policies, "policies")]
    digests = [sha256(each.encode()) for each in documents]
    if digests != sorted(set(digests)):
        raise NotProven("the policy documents do not stand by rising digest")
    return Bundle(
        run=_user_run(run),
        operator=string(operator, "operator"),
        account=string(account, "account"),
        log_key=string(log_key, "log_key"),
        checkpoint=string(checkpoint, "checkpoint"),
        leaves=[_whole(each, at) for at, each in enumerate(items(leaves, "leaves"))],
        edge=_hashes(edge, "edge"),
        tail=[_skeleton(each, at) for at, each in enumerate(items(tail, "tail"))],
        policies=documents,
        consistency=None if consistency is None else _consistency(consistency),
    )


def _user_run(value: Json) -> str:
    run = _run(value, "run")
    if run in (SYSTEM_RUN, TRUST_RUN):
        raise NotProven(f"{run!r} is not the run of a user")
    return run


def _consistency(value: Json) -> Consistency:
    note, proof = members(value, "consistency", "checkpoint", "proof")
    return Consistency(note=string(note, "the earlier checkpoint"), proof=_hashes(proof, "proof"))


def _whole(value: Json, at: int) -> Whole:
    what = f"leaf number {at} of the bundle"
    *place, verdict, code, reason, index, envelope, data, content, proof = members(
        value, what, *_PLACE, *_RULING, "reason", "index", "envelope", "data", "object", "proof"
    )
    raw_envelope, raw_data = base64_bytes(envelope, what), base64_bytes(data, what)
    sentence = string(reason, what)
    leaf = _leaf(
        (place, verdict, code),
        (sha256(raw_envelope), sha256(raw_data)),
        sha256(sentence.encode()) if sentence else b"",
        what,
    )
    return Whole(
        index=number(index, what),
        leaf=leaf,
        envelope=raw_envelope,
        data=raw_data,
        content=None if content is None else base64_bytes(content, what),
        proof=_hashes(proof, what),
    )


def _skeleton(value: Json, at: int) -> Leaf:
    what = f"leaf number {at} of the tail"
    *place, verdict, code, envelope, data, reason = members(
        value, what, *_PLACE, *_RULING, "envelope_digest", "data_digest", "reason_digest"
    )
    digests = digest(envelope, what), digest(data, what)
    spoken = b"" if reason == "" else digest(reason, what)
    return _leaf((place, verdict, code), digests, spoken, what)


def _leaf(
    told: tuple[Sequence[Json], Json, Json],
    digests: tuple[bytes, bytes],
    reason_digest: bytes,
    what: str,
) -> Leaf:
    (sequence, run, run_index, trust_count, stored_us), verdict, code = told
    reason_code = string(code, what)
    if verdict not in (ACCEPTED, REFUSED) or not _CODE.fullmatch(reason_code):
        raise NotProven(f"{what} has no verdict")
    if (verdict == REFUSED) != bool(reason_code):
        raise NotProven(f"{what} has a verdict that its reason does not fit")
    return Leaf(
        stream_sequence=number(sequence, what),
        run=_run(run, what),
        run_index=number(run_index, what),
        trust_count=number(trust_count, what),
        stored_us=number(stored_us, what),
        envelope_digest=digests[0],
        data_digest=digests[1],
        verdict=str(verdict),
        reason_code=reason_code,
        reason_digest=reason_digest,
    )


def _run(value: Json, what: str) -> str:
    text = string(value, what)
    if not _RUN.fullmatch(text):
        raise NotProven(f"{what} names no run")
    return text


def _hashes(value: Json, what: str) -> list[bytes]:
    return [digest(each, what) for each in items(value, what)]
