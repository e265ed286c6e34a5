"""The command: what was proven, or the first thing that is wrong."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from swarm.verify.check import Proven, verify
from swarm.verify.text import NotProven

PROVEN = 0
NOT_PROVEN = 1
USAGE = 2
SHOWN_FINDINGS = 20
SHOWN_CHARACTERS = 1_000
"""Of a line, before what cannot be printed is escaped."""


def main(arguments: Sequence[str]) -> int:
    """Verify one bundle; the exit code: 0 proven, 1 not, 2 a file cannot be read."""
    parser = argparse.ArgumentParser(
        prog="swarm verify", description="Check an evidence bundle, trusting one public key."
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--root-key", required=True, help="public key of the operator, O...")
    parser.add_argument("--old-checkpoint", type=Path, help="one obtained at another time")
    parser.add_argument("--consistency", type=Path, help="proof between it and the bundle's")
    given = parser.parse_args(arguments)
    return report(given.bundle, given.root_key, given.old_checkpoint, given.consistency)


def report(
    bundle: Path, root_key: str, old_checkpoint: Path | None, consistency: Path | None
) -> int:
    """Verify and print."""
    try:
        raw = bundle.read_bytes()
        old = None if old_checkpoint is None else old_checkpoint.read_text(encoding="utf-8")
        proof = None if consistency is None else consistency.read_bytes()
    except (OSError, ValueError) as error:
        print(f"A file cannot be read: {error}", file=sys.stderr)  # noqa: T201 - its output
        return USAGE
    try:
        proven = verify(raw, root_key, old_checkpoint=old, consistency=proof)
    except NotProven as error:
        sentence = str(error)
        line = f"NOT PROVEN. {sentence[:1].upper()}{sentence[1:]}."
        print(shown(line), file=sys.stderr)  # noqa: T201 - its output
        return NOT_PROVEN
    print("\n".join(map(shown, lines(proven))))  # noqa: T201 - its output
    return PROVEN


def shown(line: str) -> str:
    """A line in printable ASCII, cut where it is very long.

    Names in a bundle are whatever somebody wrote: none may steer the terminal, begin a line of its
    own, or push the verdict out of sight.
    """
    plain = "".join(
        each if each.isascii() and each.isprintable() else ascii(each)[1:-1]
        for each in line[:SHOWN_CHARACTERS]
    )
    more = len(line) - SHOWN_CHARACTERS
    return f"{plain}... ({more} characters more)" if more > 0 else plain


def lines(proven: Proven) -> list[str]:
    """What was proven, for people."""
    refused = ", ".join(f"{reason} {count}" for reason, count in sorted(proven.refused.items()))
    count = len(proven.findings)
    found = [
        f"PROVEN. Run {proven.run}: {proven.accepted} events verified,"
        f" {sum(proven.refused.values())} refused"
        + (f" ({refused})" if refused else "")
        + (f". {count} {'FINDING' if count == 1 else 'FINDINGS'}, see below" if count else ""),
        f"  nothing of the run left out up to leaf {proven.size} of {proven.log}",
        f"  from {proven.first.isoformat()} to {proven.last.isoformat()}",
        f"  tree of {proven.size} leaves, root {proven.root}",
        f"  keys vouched for: {proven.keys}",
        *(f"  policy {digest}" for digest in proven.policies),
        *(f"  sender {name} {key}" for key, name in sorted(proven.senders.items())),
    ]
    if proven.extends is not None:
        found.append(f"  the log continues the checkpoint of {proven.extends} leaves")
    if proven.extended_by is not None:
        found.append(f"  the checkpoint of {proven.extended_by} leaves continues the log")
    found += [f"  FOUND {each}" for each in proven.findings[:SHOWN_FINDINGS]]
    if count > SHOWN_FINDINGS:
        found.append(f"  FOUND {count - SHOWN_FINDINGS} more")
    return found
