"""What can go wrong with settings, embedded servers, and starting and stopping them.

ClusterError
  ConfigurationError   a variable with a value that cannot be used
  HomeNotUsable        SWARM_HOME cannot be created, read or written
  HomeInUse            another command works in this SWARM_HOME
    AlreadyRunning     another swarm uses it
  NotRunning           no swarm uses this SWARM_HOME
  RecoveryUnfinished   a recovery of the stream was interrupted
  MemberBarred         a member without which there is no swarm was revoked
  UnknownKeyName       no key or member of that name
  UnknownSubject       no person of that name or id
  UnknownEvent         no event of that id
  UnknownTenant        no tenant with an account on the broker
  SubjectBusy          a person cannot be forgotten whose runs go on
  PartFailed           an embedded server or an actor group that did not come up
    PortTaken          another program listens on the port that was asked for
  StartTimeout         not ready within SWARM_START_TIMEOUT_S
  ModelDoesNotFit      a model that the GPUs have no room for
  NotAnswering         a server that cannot be reached, or answers nonsense

The supervisor writes an error down as its code and message; `from_code` reads it back.
"""

from bus.errors import SwarmError


class ClusterError(SwarmError):
    """The swarm could not be started, stopped or inspected."""

    code = "cluster_error"


class ConfigurationError(ClusterError):
    """A setting has a value that cannot be used."""

    code = "configuration_error"
    hint = "Correct the variable in the environment or in .env; .env.example lists them all."


class HomeNotUsable(ClusterError):
    """The swarm's directory cannot be used."""

    code = "home_not_usable"
    hint = "Set SWARM_HOME to a directory of your own on a disk with free space."


class HomeInUse(ClusterError):
    """Another command works in this SWARM_HOME."""

    code = "home_in_use"
    retryable = True
    hint = "Try again when it has ended: swarm recover, swarm doctor or swarm audit verify."


class AlreadyRunning(HomeInUse):
    """A swarm is already running with this SWARM_HOME."""

    code = "already_running"
    retryable = False
    hint = "Stop it with: swarm down. Or start a second one with another SWARM_HOME."


class NotRunning(ClusterError):
    """No swarm is running with this SWARM_HOME."""

    code = "not_running"
    hint = "Start one with: swarm up."


class MemberBarred(ClusterError):
    """A member without which there is no swarm was revoked."""

    code = "member_barred"
    hint = "Let it back in with: swarm keys enrol NAME."


class UnknownKeyName(ClusterError):
    """The swarm has no such key or member."""

    code = "unknown_key_name"
    hint = "See what there is with: swarm keys list."


class UnknownEvent(ClusterError):
    """The log holds no such event."""

    code = "unknown_event"
    hint = "The ids of events stand in: swarm events RUN, swarm memory list --json."


class RecoveryUnfinished(ClusterError):
    """A recovery of the stream was interrupted; the stream is not whole."""

    code = "recovery_unfinished"
    hint = "Finish it with: swarm recover."


class PartFailed(ClusterError):
    """A part of the swarm did not come up."""

    code = "part_failed"
    hint = "Read the log file named above, then run: swarm doctor."


class PortTaken(PartFailed):
    """Another program is listening on the port."""

    code = "port_taken"
    hint = "Choose another port, or 0 for a free one."


class StartTimeout(ClusterError):
    """The swarm was not ready in time."""

    code = "start_timeout"
    retryable = True
    hint = "Raise SWARM_START_TIMEOUT_S on a slow machine, or choose a smaller model profile."


class ModelDoesNotFit(ClusterError):
    """The GPUs have no room for the model."""

    code = "model_does_not_fit"
    hint = (
        "Choose others (SWARM_MODEL_PROFILE, SWARM_EMBEDDING_PROFILE): `swarm models` lists them."
    )


class NotAnswering(ClusterError):
    """The server does not answer."""

    code = "not_answering"
    retryable = True
    hint = "Check the address, and that the server is up."


class UnknownSubject(ClusterError):
    """Nothing is known of that person."""

    code = "unknown_subject"
    hint = "Name a user, or the id of one: swarm users list."


class UnknownTenant(ClusterError):
    """That is no tenant with an account of its own."""

    code = "unknown_tenant"
    hint = "A tenant is named by 1 to 32 of a-z, 0-9 and -; `default` is everybody's."


class SubjectBusy(ClusterError):
    """Runs of the person have not ended."""

    code = "subject_busy"
    hint = "Cancel them first: swarm cancel RUN."


def from_code(code: str, message: str) -> ClusterError:
    """Rebuild an error that another process wrote down as its code and message."""
    pending = [ClusterError]
    while pending:
        kind = pending.pop()
        if kind.code == code:
            return kind(message)
        pending.extend(kind.__subclasses__())
    return ClusterError(message)
