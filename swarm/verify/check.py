"""The verdict on a bundle: cheap checks first, then every signature, in the order of the log."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from swarm.verify.bundle import Bundle, read_bundle
from swarm.verify.chain import Chains, Finding
from swarm.verify.key import OPERATOR, public_key
from swarm.verify.note import (
    Checkpoint,
    LogKey,
    as_base64,
    log_key,
    parse_checkpoint,
    read_checkpoint,
)
from swarm.verify.place import check_places, check_tree
from swarm.verify.record import (
    SYSTEM_RUN,
    TRUST_RUN,
    Event,
    Whole,
    check_object,
    decode_envelope,
    read_event,
    run_of,
)
from swarm.verify.text import NotProven, digest, items, members, number, read_json
from swarm.verify.tree import check_consistency
from swarm.verify.trust import CHANGES, ISSUED, Trust

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """What a bundle has shown.

    Attributes:
        run: whose events these are: all of them, up to the checkpoint.
        accepted: how many may be acted on; refused: how many may not, by reason.
        senders: public keys of the accepted ones, with role and name.
        keys: how many keys were vouched for and used.
        policies: digests of those that were obeyed.
        log: the log's name; size and root of its tree.
        first, last: when the stream stored the first and last event of the run.
        findings: accepted events that repeat a number, do not join, or answer what is not there.
        extends: size of the earlier checkpoint that this log begins with, None if none was given.
        extended_by: size of the later checkpoint that begins with this log.
    """

    run: str
    accepted: int
    refused: Mapping[str, int]
    senders: Mapping[str, str]
    keys: int
    policies: tuple[str, ...]
    log: str
    size: int
    root: str
    first: datetime
    last: datetime
    findings: tuple[Finding, ...] = ()
    extends: int | None = None
    extended_by: int | None = None


def verify(
    raw: bytes,
    root_key: str,
    *,
    old_checkpoint: str | None = None,
    consistency: bytes | None = None,
) -> Proven:
    """Check everything that a bundle claims, trusting one public key.

    Args:
        raw: the bundle, to the last byte.
        root_key: public key of the operator, ``O...``.
        old_checkpoint: a note that was obtained at another time, earlier or later.
        consistency: the answer of ``/v1/audit/consistency`` between it and the bundle's
            checkpoint, where the bundle does not bring the proof.

    Raises:
        NotProven: the first thing that is wrong.
    """
    bundle = read_bundle(raw)
    told = parse_checkpoint(bundle.checkpoint, "the checkpoint")
    mine = check_places(bundle, told.size)
    check_tree(bundle, mine[-1], told)
    key = log_key(bundle.log_key)
    read_checkpoint(bundle.checkpoint, key, "the checkpoint", alone=True)
    extends, extended_by = _check_others(bundle, key, told, old_checkpoint, consistency)
    walk = _walk(bundle, root_key)
    _check_voucher(key.voucher, root_key, walk.trust.roots)
    return Proven(
        run=bundle.run,
        accepted=sum(whole.is_accepted for whole in mine),
        refused=Counter(whole.leaf.reason_code for whole in mine if not whole.is_accepted),
        senders=walk.senders,
        keys=len(walk.used),
        policies=tuple(sorted(walk.trust.obeyed)),
        log=key.name,
        size=told.size,
        root=as_base64(told.root),
        first=_stored(mine[0]),
        last=_stored(mine[-1]),
        findings=tuple(walk.findings),
        extends=extends,
        extended_by=extended_by,
    )


def _check_voucher(voucher: str, trusted: str, roots: Sequence[str]) -> None:
    """That the log's key is vouched for by the root that is trusted, or one that followed it.

    Whoever stole a root before it could write another log, and let it end in the true succession.
    """
    if voucher in roots[roots.index(trusted) :]:
        return
    which = "a root from before the given key" if voucher in roots else "which is no root here"
    raise NotProven(f"the log key's JWT is signed by {voucher}, {which}")


def _stored(whole: Whole) -> datetime:
    try:
        return _EPOCH + timedelta(microseconds=whole.leaf.stored_us)
    except OverflowError as error:
        raise NotProven(f"{whole}: it was stored at a time that there is not") from error


def _walk(bundle: Bundle, root_key: str) -> "_Walk":
    """Every event, in the order of the log."""
    try:
        public_key(root_key, OPERATOR)
    except NotProven as error:
        raise NotProven(f"the root key: {error}") from error
    try:
        walk = _Walk(Trust(bundle.operator, bundle.account, bundle.policies), bundle.run)
    except NotProven as error:
        raise NotProven(f"{error}") from error
    for whole in bundle.leaves:
        try:
            walk.step(whole)
        except NotProven as error:
            raise NotProven(f"{whole}: {error}") from error
    walk.end()
    if not walk.trust.leads_to(root_key):
        raise NotProven("the bundle is of another root than the given key")
    return walk


def _check_others(
    bundle: Bundle,
    key: LogKey,
    told: Checkpoint,
    old_checkpoint: str | None,
    consistency: bytes | None,
) -> tuple[int | None, int | None]:
    """That the log is the one of other checkpoints; the sizes of an earlier and a later one."""
    extends = extended_by = None
    if bundle.consistency is not None:
        what = "the earlier checkpoint of the bundle"
        earlier = read_checkpoint(bundle.consistency.note, key, what, alone=True)
        _check_growth(earlier, told, bundle.consistency.proof)
        extends = earlier.size
    if old_checkpoint is not None:
        held = read_checkpoint(old_checkpoint, key, "the old checkpoint", alone=False)
        _check_held(held, told, bundle, consistency)
        extends = held.size if held.size <= told.size else extends
        extended_by = held.size if held.size > told.size else None
    return extends, extended_by


@dataclass(slots=True)
class _Walk:
    """The log of a bundle, event by event."""

    trust: Trust
    run: str
    senders: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)
    _announced: dict[str, Whole] = field(default_factory=dict)
    _chains: Chains = field(default_factory=Chains)
    _ids: set[str] = field(default_factory=set)

    def step(self, whole: Whole) -> None:
        """Judge the next leaf."""
        named = run_of(decode_envelope(whole.envelope)[0])
        if named != whole.leaf.run:
            raise NotProven(f"it is of the run {named!r} by its subject, not of {whole.leaf.run!r}")
        if not whole.is_accepted:
            if whole.content is not None or whole.leaf.run == SYSTEM_RUN:
                raise NotProven("a refused event shows nothing here")
            return
        event = read_event(whole.envelope, whole.data)
        check_object(event, whole.content)
        self._join(event, whole)
        self.trust.judge(event, whole.leaf.stored_us)
        if event.kind == ISSUED and whole.leaf.run == SYSTEM_RUN:
            self._announced[event.tokens[2]] = whole
            if event.key != event.tokens[2]:
                self.used.add(event.key)
            return
        if whole.leaf.run == SYSTEM_RUN:
            raise NotProven("it is neither of the run nor of trust, and announces no key")
        self.used.add(event.key)
        if whole.leaf.run == self.run:
            self._answer(event, whole)

    def end(self) -> None:
        """See that nothing came along that shows nothing."""
        for key in self._announced.keys() - self.used:
            raise NotProven(f"{self._announced[key]}: it announces a key that nobody here uses")
        if self.trust.unused:
            raise NotProven("a policy document came along that no event here obeys")

    def _join(self, event: Event, whole: Whole) -> None:
        """That the sender's events follow each other; a finding where they do not.

        What changes whom to believe must join, unless it is said once more, which changes nothing.
        """
        misfit = self._chains.follow(event, whole.index)
        if misfit is not None:
            if event.run == TRUST_RUN and event.kind in CHANGES and not misfit.is_repeat:
                raise NotProven(misfit.what)
            self._find(event, whole, misfit.what)

    def _answer(self, event: Event, whole: Whole) -> None:
        if event.cause is not None and event.cause not in self._ids:
            self._find(event, whole, "it answers an event that is not in the run before it")
        self._ids.add(event.id)
        self.senders[event.key] = f"{event.role}/{event.name}"

    def _find(self, event: Event, whole: Whole, what: str) -> None:
        self.findings.append(
            Finding(
                index=whole.index,
                stream_sequence=whole.leaf.stream_sequence,
                sender=f"{event.role}/{event.name}",
                key=event.key,
                what=what,
            )
        )


def _check_growth(earlier: Checkpoint, later: Checkpoint, proof: Sequence[bytes]) -> None:
    try:
        check_consistency(earlier.size, earlier.root, later.size, later.root, proof)
    except NotProven as error:
        raise NotProven(
            f"the log of {later.size} leaves does not continue the one of {earlier.size}: {error}"
        ) from error


def _check_held(
    held: Checkpoint, told: Checkpoint, bundle: Bundle, consistency: bytes | None
) -> None:
    """That the bundle's log and the one of the checkpoint that somebody holds are one."""
    old, new = (held, told) if held.size <= told.size else (told, held)
    if consistency is not None:
        _check_growth(old, new, _proof_between(old.size, new.size, consistency))
    elif old.size == new.size:
        _check_growth(old, new, [])
    elif held.size < told.size and bundle.consistency is not None:
        what = "the earlier checkpoint of the bundle"
        carried = parse_checkpoint(bundle.consistency.note, what)
        if carried != held:
            raise NotProven("the old checkpoint is not the one that the bundle's proof begins at")
    else:
        raise NotProven(
            f"no proof says that the logs of {old.size} and {new.size} leaves are one: get one"
            f" with swarm audit prove --old {old.size} --new {new.size}"
        )


def _proof_between(old: int, new: int, raw: bytes) -> list[bytes]:
    what = "the consistency proof"
    first, second, proof = members(read_json(raw, what), what, "old", "new", "proof")
    if (number(first, what), number(second, what)) != (old, new):
        raise NotProven(f"the consistency proof is not one from {old} to {new} leaves")
    return [digest(each, what) for each in items(proof, what)]
