"""`swarm keys`: who is vouched for, by which keys; rotate them, take trust back."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from cluster import keys as of_swarm
from cluster.keys import KnownKey
from cluster.settings import Settings
from swarm.cli import token_keys
from swarm.cli.lifecycle import Json, print_json
from swarm.cli.show import harmless, printer

keys = typer.Typer(help="Keys: who has which, rotate them, revoke them.", no_args_is_help=True)
rotate = typer.Typer(help="Replace keys by new ones while the swarm works.", no_args_is_help=True)
keys.add_typer(rotate, name="rotate")

Reason = Annotated[str, typer.Option("--reason", help="Why; it stands in the log.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    token_keys.add_to(rotate)
    app.add_typer(keys, name="keys")


@keys.command(name="list")
def list_(*, as_json: Json = False) -> None:
    """Show every key that was vouched for: whose it is, until when, whether it was revoked."""
    known = asyncio.run(of_swarm.keys_of(Settings.load()))
    if as_json:
        print_json({"keys": [document(each) for each in known]})
    else:
        for line in lines(known, datetime.now(UTC)):
            printer().print(harmless(line))


@keys.command()
def revoke(
    key_or_name: Annotated[str, typer.Argument(metavar="KEY_OR_NAME")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it stands in the log.")],
) -> None:
    """Take trust back from a key, or from all keys of a member, from now on.

    The member gets no new credential until it is enrolled again.
    """
    revoked = asyncio.run(of_swarm.revoke(Settings.load(), key_or_name, reason=reason))
    for each in revoked:
        printer().print(harmless(f"Revoked: {each.role}/{each.name} {each.public_key}"))


@keys.command()
def enrol(name: Annotated[str, typer.Argument(metavar="NAME")]) -> None:
    """Let a member back in whose key was revoked; it makes a new key."""
    for member in of_swarm.enrol(Settings.load(), name):
        printer().print(harmless(f"Enrolled again: {member}"))


@rotate.command()
def agent(name: Annotated[str, typer.Argument(metavar="NAME")], reason: Reason = "") -> None:
    """Have a member end the chain of its key and go on under a new one."""
    for each in asyncio.run(of_swarm.rotate_agent(Settings.load(), name, reason=reason)):
        printer().print(harmless(f"Asked: {each.role}/{each.name} gives up {each.public_key}"))


@rotate.command()
def authority(
    reason: Reason = "",
    *,
    now: Annotated[
        bool, typer.Option("--now", help="The older key counts no longer at all.")
    ] = False,
) -> None:
    """Have a new key sign credentials; the older one counts as long as what it has signed."""
    done = asyncio.run(of_swarm.rotate_authority(Settings.load(), reason=reason, at_once=now))
    _say("Another key signs credentials", told=done)


@rotate.command()
def root(reason: Reason = "") -> None:
    """Have a new root vouch for the authority, endorsed by the old one."""
    done = asyncio.run(of_swarm.rotate_root(Settings.load(), reason=reason))
    _say("Another root vouches for the authority", told=done)


def lines(known: Sequence[KnownKey], now: datetime) -> list[str]:
    """The keys, for people."""
    return [
        f"{each.public_key}  {each.role}/{each.name}  announced {_time(each.announced)}  "
        f"{_standing(each, now)}"
        for each in known
    ]


def document(each: KnownKey) -> dict[str, object]:
    """The same as a document."""
    return {
        "key": each.public_key,
        "role": each.role,
        "name": each.name,
        "announced": each.announced.isoformat(),
        "expires": each.expires.isoformat(),
        "revoked": each.revoked.isoformat() if each.revoked else None,
    }


def _standing(each: KnownKey, now: datetime) -> str:
    if each.revoked is not None:
        return f"revoked {_time(each.revoked)}"
    return f"{'expires' if now < each.expires else 'expired'} {_time(each.expires)}"


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _say(what: str, *, told: bool) -> None:
    when = "from now on" if told else "once the swarm starts"
    printer().print(f"{what} {when}.")
