"""What can go wrong where a witness keeps its key and what it signed last.

ClientError               (swarm/errors.py)
  WitnessError
    WitnessNotUsable      its directory cannot be read or written
    WitnessLocked         retry: another process of this witness is running
    WitnessMismatch       the directory belongs to another log or another name
    WitnessStateLost      never retry: what it signed last is gone, damaged or from a copy
"""

from swarm.errors import ClientError


class WitnessError(ClientError):
    """The witness cannot work."""

    code = "witness_error"


class WitnessNotUsable(WitnessError):
    """The witness's directory cannot be read or written."""

    code = "witness_not_usable"


class WitnessLocked(WitnessError):
    """Another process of this witness is running."""

    code = "witness_locked"
    retryable = True
    hint = "One directory is for one process. Stop the other one first."


class WitnessMismatch(WitnessError):
    """The witness's directory belongs to another log or another name."""

    code = "witness_mismatch"
    hint = "Give each log a directory of its own."


class WitnessStateLost(WitnessError):
    """What the witness signed last is not known for certain any more."""

    code = "witness_state_lost"
    hint = (
        "Find the newest checkpoint that carries this witness's cosignature, at the log or at "
        "whoever keeps its checkpoints, and give it with --newest FILE. With an older one the "
        "witness could sign a second branch."
    )
