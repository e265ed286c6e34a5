"""`swarm witness`, and `python -m swarm.witness`: the command that runs a witness."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from bus.logs import configure_logs
from storage.errors import BadCheckpoint
from storage.note import VerifierKey
from swarm.errors import Refused
from swarm.witness.server import listen, serve
from swarm.witness.state import StateDirectory, Watched, open_state

Origin = Annotated[
    str, typer.Option("--origin", help="The log, as its checkpoints name it in their first line.")
]
LogKeys = Annotated[
    list[str],
    typer.Option(
        "--log-key",
        metavar="VKEY",
        help="The log's verifier key; given twice while one takes another's place.",
    ),
]
State = Annotated[
    Path,
    typer.Option("--state", metavar="DIR", help="Where its key is, and what it signed last."),
]
Listen = Annotated[str, typer.Option("--listen", metavar="HOST:PORT", help="Where to listen.")]
Name = Annotated[
    str | None,
    typer.Option("--name", help="Its key's name, by convention a URL without scheme."),
]
Newest = Annotated[
    Path | None,
    typer.Option(
        "--newest",
        metavar="FILE",
        help="After its state was lost, or to take one of an earlier version over: the newest "
        "checkpoint that it has cosigned.",
        exists=True,
        dir_okay=False,
    ),
]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(name="witness")(witness)


def witness(
    origin: Origin,
    log_key: LogKeys,
    state: State,
    listen_at: Listen = "127.0.0.1:8200",
    name: Name = None,
    newest: Newest = None,
) -> None:
    """Cosign a log's checkpoints, as long as it only grows (C2SP tlog-witness).

    Run it where the swarm's operator has no say: other machine, other people.
    """
    host, _, port = listen_at.rpartition(":")
    if not host or not port.isdecimal():
        raise Refused("--listen is HOST:PORT.")
    try:
        keys = tuple(VerifierKey.parse(text) for text in log_key)
    except BadCheckpoint as error:
        raise Refused(f"--log-key cannot be used: {error}") from error
    watched = Watched(origin=origin, keys=keys)
    configure_logs()
    note = None if newest is None else newest.read_text(encoding="utf-8")
    with (
        open_state(state, watched, name, newest=note) as opened,
        listen(host.strip("[]"), int(port)) as bound,
    ):
        _announce(opened, bound.getsockname())
        asyncio.run(serve(opened, bound))


def _announce(state: StateDirectory, address: tuple[object, ...]) -> None:
    """The lines that its users need, and that a script can read."""
    host = f"[{address[0]}]" if ":" in str(address[0]) else address[0]
    typer.echo(f"verifier key  {state.parties.own_key}")
    typer.echo(f"listening on  http://{host}:{address[1]}")
    typer.echo(f"cosigned      {state.known.size} leaves")
