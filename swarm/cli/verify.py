"""`swarm verify`: the independent verifier, as a command beside the others."""

from pathlib import Path
from typing import Annotated

import typer

from swarm.verify.command import report

Bundle = Annotated[Path, typer.Argument(help="What swarm audit export wrote.")]
RootKey = Annotated[str, typer.Option("--root-key", help="Public key of the operator, O...")]
Held = Annotated[
    Path | None, typer.Option("--old-checkpoint", metavar="FILE", help="Got at another time.")
]
Between = Annotated[
    Path | None,
    typer.Option("--consistency", metavar="FILE", help="Proof between it and the bundle's."),
]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(name="verify")(verify)


def verify(
    bundle: Bundle, *, root_key: RootKey, old_checkpoint: Held = None, consistency: Between = None
) -> int:
    """Check the evidence of a run without any swarm, trusting one public key."""
    return report(bundle, root_key, old_checkpoint, consistency)
