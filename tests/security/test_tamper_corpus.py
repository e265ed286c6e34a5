"""At least 100,000 ways to tamper with an evidence bundle, of which none is accepted.

Whoever tampers has the bundle and, in the second half, the operator's own keys: then the tree,
the checkpoint and the proofs are made anew and fit, and what is left is what others signed.
"""

import copy
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from nacl.signing import SigningKey

from bus.nkey import ACCOUNT, AgentKey, encode_base64url
from storage.leaf import AuditRecord
from swarm.verify import NotProven, verify
from tests.evidence import Ledger, bytes_of, document_of, forged, small

LEAST = 100_000
SEED = 20260101
FLIPS = 6
"""Other values tried at each byte: so many by seed, one of them a single bit."""
MOST_S = 300
"""Wall clock, on a machine that others use as well; 34 s of one core are used."""

Mutant = bytes


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    return small()


def _accepted(
    mutants: Iterator[Mutant], root: str, original: bytes, held: str | None = None
) -> tuple[int, list[Mutant]]:
    """How many there were, and those that were taken for evidence."""
    tried, taken = 0, []
    for mutant in mutants:
        if mutant == original:
            continue
        tried += 1
        try:
            verify(mutant, root, old_checkpoint=held)
        except NotProven:
            continue
        taken.append(mutant)
    return tried, taken


@pytest.mark.timeout(MOST_S)
def test_no_change_of_a_bundle_is_accepted(ledger: Ledger) -> None:
    """Bytes, fields, leaves, proofs, keys: all of it, each changed by itself."""
    original, root = ledger.bundle(since=4), ledger.operator.public
    held = ledger.checkpoint(4).note  # as somebody has it who asked for this bundle
    assert verify(original, root, old_checkpoint=held).extends == 4
    chance, total, began = random.Random(SEED), Counter[str](), time.process_time()
    kinds = {
        "bytes": _bytes(original, chance),
        "bytes removed, doubled, swapped": _moved_bytes(original),
        "truncated or longer": _cut(original, chance),
        "fields": _fields(document_of(original), chance),
        "spellings of the same": _spellings(original),
        "other keys": _other_keys(ledger),
    }
    for kind, mutants in kinds.items():
        tried, taken = _accepted(mutants, root, original, held)
        total[kind] = tried
        assert not taken, f"{kind}: {len(taken)} of {tried} accepted, such as {taken[0][:2000]!r}"
    seconds = time.process_time() - began
    print(f"\nbundle of {len(original)} bytes, seed {SEED}")
    for kind, tried in total.items():
        print(f"  {tried:7,} {kind}")
    print(f"  {total.total():7,} mutations, 0 accepted, {seconds:.1f} s of one core")
    assert total.total() >= LEAST


def _bytes(original: bytes, chance: random.Random) -> Iterator[Mutant]:
    """Every byte: one bit flipped, and other values by seed, mostly such as may stand there."""
    plausible = b'0123456789abcdefABCDEF+/="{}[],:.-_ztrue'
    for at, byte in enumerate(original):
        values = {byte ^ (1 << chance.randrange(8))}
        while len(values) < FLIPS:
            values.add(chance.choice(plausible))
        for value in values - {byte}:
            yield original[:at] + bytes([value]) + original[at + 1 :]


def _moved_bytes(original: bytes) -> Iterator[Mutant]:
    for at in range(0, len(original), 3):
        yield original[:at] + original[at + 1 :]
        yield original[:at] + original[at : at + 1] + original[at:]
        pair = original[at : at + 2]
        yield original[:at] + pair[::-1] + original[at + 2 :]


def _cut(original: bytes, chance: random.Random) -> Iterator[Mutant]:
    for _ in range(500):
        at = chance.randrange(len(original))
        yield original[:at]
        yield original[at:]
    for more in (b"\n", b" ", b"\0", b"{}", original):
        yield original + more
        yield more + original


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a document."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for name, below in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _paths(below, (*path, name))


def _at(document: Any, path: tuple[Any, ...]) -> Any:
    for name in path:
        document = document[name]
    return document


def _fields(document: Any, chance: random.Random) -> Iterator[Mutant]:
    """Every field: changed, removed, doubled, renamed; every two values of a kind swapped."""
    paths = list(_paths(document))

    def mutant(path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Mutant:
        spoilt = copy.deepcopy(document)
        change(_at(spoilt, path[:-1]), path[-1])
        return bytes_of(spoilt)

    for path in paths:
        value = _at(document, path)
        for other in _others(value, chance):
            yield mutant(path, partial(_put, other))
        yield mutant(path, lambda holder, name: holder.__delitem__(name))
        yield mutant(path, _double)
    alike = [path for path in paths if isinstance(_at(document, path), str | int | dict)]
    for _ in range(4_000):
        one, two = chance.sample(alike, 2)
        if one == two[: len(one)] or two == one[: len(two)]:
            continue
        spoilt = copy.deepcopy(document)
        first, second = _at(spoilt, one), _at(spoilt, two)
        _at(spoilt, one[:-1])[one[-1]] = second
        _at(spoilt, two[:-1])[two[-1]] = first
        yield bytes_of(spoilt)


def _put(value: Any, holder: Any, name: Any) -> None:
    holder[name] = value


def _double(holder: Any, name: Any) -> None:
    if isinstance(holder, list):
        holder.insert(name, holder[name])
    else:
        holder[f"{name}_"] = holder[name]


def _others(value: Any, chance: random.Random) -> list[Any]:
    """Other values for a field."""
    found: list[Any] = [None, True, 0, 1, "", [], {}, "x", -1, 1.5, 2**63, "\ud800", [value]]
    if isinstance(value, str) and value:
        at = chance.randrange(len(value))
        found += [value[:-1], value + "A", value.swapcase(), value + "=", value[::-1], " " + value]
        found += [value[:at] + chance.choice("0aA") + value[at + 1 :], value[:at]]
    if isinstance(value, int):
        found += [value + 1, value - 1, -value, str(value), float(value)]
    if isinstance(value, list) and value:
        found += [value[1:], value[:-1], value[::-1], [*value, value[-1]], value * 2]
        found += [[*value[:at], *value[at + 1 :]] for at in range(len(value))]
        found += [
            [*value[:at], value[at + 1], value[at], *value[at + 2 :]]
            for at in range(len(value) - 1)
        ]
    return [other for other in found if type(other) is not type(value) or other != value]


def _spellings(original: bytes) -> Iterator[Mutant]:
    """The same document, written in another way."""
    for at, byte in enumerate(original):
        if byte in b",:{}[]":
            yield original[: at + 1] + b" " + original[at + 1 :]
        if chr(byte).isalpha() and at % 4 == 0:
            yield original[:at] + b"\\u%04x" % byte + original[at + 1 :]
    yield original.removesuffix(b"\n")
    yield b"\xef\xbb\xbf" + original


def _other_keys(ledger: Ledger) -> Iterator[Mutant]:
    """Whole parts signed anew by keys that the root does not know."""
    for key in ("operator", "account", "log"):
        other = small()
        setattr(other, key, getattr(ledger, key))
        other.root = other.operator
        yield other.bundle()
    document = document_of(ledger.bundle(since=4))
    stranger = copy.copy(ledger)
    stranger.log = SigningKey.generate()
    spoilt = document_of(stranger.bundle(since=4))
    for taken in ({"checkpoint"}, {"checkpoint", "consistency"}, {"log_key"}):
        yield bytes_of({**document, **{name: spoilt[name] for name in taken}})


# With the operator's own keys: the tree is made anew after each change


def test_no_change_of_an_event_is_accepted_in_a_tree_made_anew_around_it(ledger: Ledger) -> None:
    root, chance = ledger.operator.public, random.Random(SEED)
    tried, taken = _accepted(_rewritten(ledger, chance), root, ledger.bundle())
    print(f"\n  {tried:7,} rewritten events in trees that fit, {len(taken)} accepted")
    assert not taken, document_of(taken[0])
    assert tried > 1_000


def _rewritten(ledger: Ledger, chance: random.Random) -> Iterator[Mutant]:
    """Each part of each shown event, changed; the rest of the bundle made to fit."""
    shown = [at for at, record in enumerate(ledger.records) if record.run in ("r1", "swarm")]
    for at in shown:
        for record in _records_like(ledger.records[at], chance):
            spoilt = forged(ledger, at)
            spoilt.records[at] = record
            yield spoilt.bundle()


def _records_like(record: AuditRecord, chance: random.Random) -> Iterator[AuditRecord]:
    headers = dict(record.raw_headers)
    for name, value in headers.items():
        for other in (value[:-1], value + "1", value[::-1], "", "1", _flip(value, chance)):
            if other != value:
                yield replace(record, raw_headers=tuple({**headers, name: other}.items()))
        rest = {key: each for key, each in headers.items() if key != name}
        yield replace(record, raw_headers=tuple(rest.items()))
        yield replace(record, raw_headers=(*record.raw_headers, (name, value)))
        yield replace(record, raw_headers=tuple({**rest, name.upper(): value}.items()))
    for name in ("ce-onbehalfof", "ce-cause", "traceparent", "ce-dataref", "ce-x"):
        if name not in headers:
            yield replace(record, raw_headers=(*record.raw_headers, (name, "x")))
    signature = encode_base64url(AgentKey.generate(ACCOUNT).sign(b"x"))
    yield replace(record, raw_headers=tuple({**headers, "swarm-signature": signature}.items()))
    for at in range(0, len(record.data), 5):
        yield replace(record, data=record.data[:at] + record.data[at + 1 :])
        flipped = bytes([record.data[at] ^ (1 << chance.randrange(8))])
        yield replace(record, data=record.data[:at] + flipped + record.data[at + 1 :])
    tokens = record.subject.split(".")
    for at in range(len(tokens)):
        for token in ("x", "00", "r2", "coder", "critic", tokens[at] + "x"):
            subject = ".".join([*tokens[:at], token, *tokens[at + 1 :]])
            moved = replace(record, subject=subject)
            if moved.run == record.run and moved != record:  # else it is left out of the run
                yield moved


def _flip(text: str, chance: random.Random) -> str:
    at = chance.randrange(len(text))
    return text[:at] + ("a" if text[at] != "a" else "b") + text[at + 1 :]
