"""`python -m swarm.witness`: what `swarm witness` does, as a small process.

It loads neither Ray nor a database driver, which the whole command line does.
"""

import sys

import typer

from bus.errors import SwarmError
from swarm.witness.command import witness

USAGE = 2
FAILED = 1


def main(arguments: list[str]) -> int:
    """Run the witness; the exit code."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(name="witness")(witness)
    try:
        app(arguments, standalone_mode=False)
    except SwarmError as error:
        typer.echo(f"witness: {error}", err=True)
        if error.hint:
            typer.echo(f"         {error.hint}", err=True)
        return FAILED
    except typer.TyperException as error:
        typer.echo(f"witness: {error}", err=True)
        return USAGE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
