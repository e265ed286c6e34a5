"""`swarm keys rotate tokens`: another key to sign access tokens with."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from cluster.people import token_key_file
from cluster.settings import Settings
from policies.token_keys import rotate as rotate_ring
from policies.tokens import key_thumbprint
from swarm.cli.show import printer

DropOld = Annotated[
    bool,
    typer.Option(
        "--drop-old",
        help="Accept nothing more that older keys signed, for when one leaked: "
        "clients refresh or log in again.",
    ),
]


def add_to(rotate: typer.Typer) -> None:
    """Register the command."""
    rotate.command()(tokens)


def tokens(*, drop_old: DropOld = False) -> None:
    """Sign access tokens with a new key; a running gateway notices within seconds.

    Nobody is logged out: what the old key signed is accepted until it expires.
    """
    path = token_key_file(Settings.load().located_home())
    ring = rotate_ring(path, now=datetime.now(UTC), keep=not drop_old)
    out = printer()
    out.print(
        f"Access tokens are signed with {key_thumbprint(ring.signing.public_key())} from now."
    )
    if drop_old:
        out.print("What older keys signed is not accepted any more.")
