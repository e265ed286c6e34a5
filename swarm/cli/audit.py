"""`swarm audit`: checkpoints, proofs, evidence for outsiders, and a check from inside."""

import asyncio
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bus.identity import Authority
from bus.subject_keys import LIFE_S
from cluster.audit_log import verify_log
from cluster.erasure import Erasure, forget, subject_named
from cluster.keys import keys_in
from cluster.settings import Settings
from storage.log_checker import LogCheck
from swarm.cli.connection import local_swarm
from swarm.cli.lifecycle import Json, print_json
from swarm.cli.show import complain, harmless, printer
from swarm.errors import Refused

_FAILED = 1
Size = Annotated[
    int | None, typer.Option("--size", min=1, help="Of the tree; default: the latest.")
]
Cosigned = Annotated[bool, typer.Option("--cosigned", help="One that a witness has cosigned.")]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="Where to; default: standard output.")
]
Kept = Annotated[
    Path | None,
    typer.Option(
        "--old-checkpoint", metavar="FILE", exists=True, dir_okay=False, help="Kept from earlier."
    ),
]
Since = Annotated[
    Path | None,
    typer.Option(
        "--since-checkpoint",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Prove that the log has only grown since.",
    ),
]
app = typer.Typer(name="audit", help="Check the audit log, and show it to others.")


def add_to(parent: typer.Typer) -> None:
    """Register the commands."""
    app.command(name="root-key")(root_key)
    app.command(name="checkpoint")(checkpoint)
    app.command(name="prove")(prove)
    app.command(name="export")(export)
    app.command(name="verify")(verify)
    app.command(name="forget")(forget_person)
    parent.add_typer(app)


def root_key(
    *,
    first: Annotated[
        bool, typer.Option("--first", help="The one at the beginning of the log.")
    ] = False,
) -> None:
    """Print the operator's public key: all that swarm verify trusts. Pass it on by another way."""
    ring = Authority.load(keys_in(Settings.load().located_home()).path).ring
    printer().print(ring.first.operator if first else ring.operator)


def checkpoint(*, size: Size = None, cosigned: Cosigned = False, out: Out = None) -> None:
    """Print a signed checkpoint; keep it, and the log cannot change behind it unseen."""
    _write(asyncio.run(_checkpoint(size, cosigned=cosigned)).encode(), out)


def prove(
    *,
    leaf: Annotated[int | None, typer.Option(min=0, help="Prove that it is in the log.")] = None,
    old: Annotated[int | None, typer.Option(min=1, help="Prove growth from this size.")] = None,
    new: Annotated[int | None, typer.Option(min=1, help="To this size; default: latest.")] = None,
    size: Size = None,
) -> None:
    """Print a proof: of a leaf in the tree (--leaf), or of growth between two sizes (--old)."""
    if (leaf is None) == (old is None):
        raise Refused("Give either --leaf or --old.")
    _write(asyncio.run(_prove(leaf, size, old, new)).encode() + b"\n", None)


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")],
    *,
    out: Out = None,
    size: Size = None,
    since_checkpoint: Since = None,
) -> None:
    """Write the evidence of a run, for whoever checks it with swarm verify."""
    since = None if since_checkpoint is None else _size_in(since_checkpoint)
    _write(asyncio.run(_evidence(run, size, since)), out)


def verify(*, old_checkpoint: Kept = None, as_json: Json = False) -> int:
    """Check every row of the audit log in Postgres, of a swarm that runs or is stopped."""
    began = time.monotonic()
    kept = None if old_checkpoint is None else old_checkpoint.read_text(encoding="utf-8")
    done = asyncio.run(verify_log(Settings.load(), kept))
    if as_json:
        print_json(document(done))
    else:
        _show(done, time.monotonic() - began)
    return 0 if done.finding is None else _FAILED


def forget_person(
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="A user's name or id.")],
    *,
    reason: Annotated[str, typer.Option("--reason", help="Goes on record.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Destroy the key of a person: what was said for them cannot be read again, by anybody.

    Every signature and proof still verifies.
    """
    if not yes:
        typer.confirm(f"What was said for {subject} will be lost for good. Go on?", abort=True)
    done = asyncio.run(_forget(subject, reason))
    if as_json:
        print_json(
            {**asdict(done), "forgotten_at": done.forgotten_at.isoformat(), "within_s": LIFE_S}
        )
        return
    out = printer()
    out.print(harmless(f"Forgotten: {done.subject}, at {done.forgotten_at:%Y-%m-%d %H:%M:%S} UTC"))
    out.print(f"  {done.erased} events of {done.runs} runs are erased, within {LIFE_S:g} s")
    if done.plain:
        out.print(f"  {done.plain} events stay readable: they are older than sealing")
    out.print("  A backup of the keys folder from before can undo it: destroy those too.")


def document(done: LogCheck) -> dict[str, object]:
    """What was found, as a document."""
    found = done.finding
    return {
        "intact": found is None,
        "finding": None if found is None else found.what,
        "stream_sequence": None if found is None else found.stream_sequence,
        "events": done.events,
        "checkpoints": done.checkpoints,
        "root": done.root.hex(),
    }


def _show(done: LogCheck, seconds: float) -> None:
    if done.finding is not None:
        sentence = str(done.finding)
        complain(
            harmless(f"The audit log was tampered with: {sentence}."),
            "Keep the data as it is, and compare it with a copy.",
        )
        return
    rate = done.events / seconds if seconds else 0.0
    printer().print(
        f"The audit log is intact: {done.events} events, {done.checkpoints} checkpoints,"
        f" root {done.root.hex()} ({seconds:.1f} s, {rate:.0f}/s)"
    )


async def _forget(subject: str, reason: str) -> Erasure:
    async with await local_swarm() as swarm:
        users = {user.username: user.id for user in await swarm.people.users()}
    return await forget(Settings.load(), subject_named(subject, users), reason=reason)


async def _checkpoint(size: int | None, *, cosigned: bool) -> str:
    async with await local_swarm() as swarm:
        return await swarm.checkpoint(size, cosigned=cosigned)


async def _prove(leaf: int | None, size: int | None, old: int | None, new: int | None) -> str:
    async with await local_swarm() as swarm:
        if leaf is not None:
            return (await swarm.inclusion(leaf, size)).model_dump_json()
        return (await swarm.consistency(old or 1, new)).model_dump_json()


async def _evidence(run: str, size: int | None, since: int | None) -> bytes:
    async with await local_swarm() as swarm:
        return await swarm.run(run).evidence(size, since)


def _size_in(file: Path) -> int:
    """The size that a checkpoint names; whether it is this log's is for the verifier to say."""
    lines = file.read_text(encoding="utf-8").splitlines()
    if len(lines) < 3 or not lines[1].isdecimal():  # noqa: PLR2004 - origin, size, root
        raise Refused(f"{file} is not a checkpoint.")
    return int(lines[1])


def _write(content: bytes, out: Path | None) -> None:
    if out is None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    try:
        out.write_bytes(content)
    except OSError as error:
        raise Refused(f"Cannot write {out}: {error.strerror}.") from error
