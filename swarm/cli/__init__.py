"""The command line.

`swarm up`, `down`, `status`, `doctor`, `recover`, `creds`, `demo`, `unit`; `users`, `api-keys`,
`keys`; `run`, `runs`, `events`; `cancel`, `pause`, `resume`, `retry`, `approvals`, `approve`,
`deny`, `dead-letters`; `replay`, `fork`, `receipt`; `memory`; `audit`, `verify`, `witness`;
`policy`, `usage`.

Exit codes: 0 done, 1 the run or the swarm failed, 2 usage, 3 no swarm to reach.
This is the one place of the public face that may import cluster/.
"""

import sys

import typer

from actors.errors import ApplicationNotUsable, CannotCheck, CannotReplay
from bus.errors import SwarmError
from cluster.errors import (
    ConfigurationError,
    HomeNotUsable,
    NotRunning,
    PortTaken,
    UnknownEvent,
    UnknownKeyName,
    UnknownSubject,
    UnknownTenant,
)
from swarm.cli import (
    audit,
    control,
    credentials,
    demonstration,
    forking,
    keys,
    lifecycle,
    memory,
    models,
    people,
    policy,
    receipt,
    recover,
    replay,
    runs,
    unit,
    usage,
    verify,
)
from swarm.cli.show import complain
from swarm.errors import Conflict, NotReachable, Refused, Unavailable
from swarm.witness import command as witness

DONE = 0
FAILED = 1
USAGE = 2
UNREACHABLE = 3
INTERRUPTED = 130

app = typer.Typer(
    name="swarm",
    help="A swarm of LLM agents whose every message is a signed, audited event.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
lifecycle.add_to(app)
recover.add_to(app)
runs.add_to(app)
control.add_to(app)
replay.add_to(app)
forking.add_to(app)
receipt.add_to(app)
memory.add_to(app)
audit.add_to(app)
verify.add_to(app)
policy.add_to(app)
models.add_to(app)
usage.add_to(app)
credentials.add_to(app)
keys.add_to(app)
people.add_to(app)
demonstration.add_to(app)
unit.add_to(app)
witness.add_to(app)


def main() -> None:
    """Run one command and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command; the exit code."""
    try:
        code = app(arguments, standalone_mode=False)
    except SwarmError as error:
        complain(str(error), error.hint)
        return exit_code(error)
    except typer.Abort:
        return INTERRUPTED
    except KeyboardInterrupt:
        complain("Interrupted.")
        return INTERRUPTED
    except typer.TyperException as error:
        complain(str(error), "See swarm --help.")
        return USAGE
    return code if isinstance(code, int) else DONE


def exit_code(error: SwarmError) -> int:
    """Which exit code an error has."""
    match error:
        case NotReachable() | Unavailable() | NotRunning():
            return UNREACHABLE
        case Conflict():
            return FAILED
        case (
            ConfigurationError()
            | ApplicationNotUsable()
            | HomeNotUsable()
            | PortTaken()
            | UnknownEvent()
            | UnknownKeyName()
            | UnknownSubject()
            | UnknownTenant()
            | CannotCheck()
            | CannotReplay()
            | Refused()
        ):
            return USAGE
        case _:
            return FAILED
