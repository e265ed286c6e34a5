"""What keeps a workflow, a role, an answer or an actor from being used.

ActorError              (SwarmError, bus/errors.py)
  InvalidWorkflow       a workflow that cannot be run as it is declared
    EmptyWorkflow       it has nothing to do
    DuplicateName       two parts of it share a name
    UnknownInput        a step wants the answer of a step that is not there
    WorkflowCycle       steps wait for each other
    InvalidStep         a step with an impossible name or limit
    InvalidLoop         a loop that could never end by a verdict
    BadDefinition       a definition in the log that is not one of a workflow
  UnknownWorkflow       no workflow of that name
  UnknownRole           no role of that name
  AnswerRejected        a model's answer that does not fit its role
  PromptTooLarge        instructions that do not fit the model's context
  FunctionFailed        an agent's own function raised something
  ApplicationNotUsable  a file with workflows and agents of a user that cannot be used
    RoleTaken           two agents, or an agent and a role of the swarm, share a role
    InvalidRole         what cannot name a role
  ServersNotUsable      a file that names MCP servers and cannot be used
  ModelAsked            a replay came to where only a model could go on
  CannotCheck           an answer that cannot be asked for again
  CannotReplay          a run of which nobody can read any more what was said
  CannotFork            a run that cannot branch off there, or not with those changes
    UnknownForkEvent    the parent's log has no such event
  EnrolmentRefused      somebody asked for a credential without the right to it
    EnrolmentBarred     its right was taken away when its key was revoked
  KeyRetired            a member is to go on under a new key
  QuestionRefused       a question to the memory that nobody may ask, or that nobody signed
  ItemNameTaken         no new item of the memory is called so
  MemoryUnavailable     retry: nobody answers for the memory
    MemorySealed        retry: it is not given the key to what it is to keep
  ToolError             a tool that did not do what an agent asked of it
    InvalidTool         a function that cannot be a tool
    ToolMisused         arguments that are none for the tool
    ToolFailed          the tool raised something, or answered something else
    ServerFailed        an MCP server ended, or could not be reached
    SandboxUnavailable  this machine cannot contain a program that nobody has read
    SandboxFailed       the sandbox was ended from outside
    UnusableFiles       files that are no program for the sandbox
"""

from bus.errors import SwarmError


class ActorError(SwarmError):
    """An agent or the coordinator failed."""

    code = "actor_error"


class InvalidWorkflow(ActorError):
    """The workflow cannot be run as it is declared."""

    code = "invalid_workflow"


class EmptyWorkflow(InvalidWorkflow):
    """The workflow or loop has no steps."""

    code = "empty_workflow"


class DuplicateName(InvalidWorkflow):
    """Two parts of the workflow share a name."""

    code = "duplicate_name"


class UnknownInput(InvalidWorkflow):
    """A step takes the answer of a step that the workflow does not have."""

    code = "unknown_input"


class WorkflowCycle(InvalidWorkflow):
    """Steps of the workflow wait for each other."""

    code = "workflow_cycle"
    hint = "Steps that repeat belong in a loop; a loop's step may read the round before."


class InvalidStep(InvalidWorkflow):
    """The step has an impossible name or limit."""

    code = "invalid_step"


class InvalidLoop(InvalidWorkflow):
    """The loop has no step whose verdict could end it, or no rounds."""

    code = "invalid_loop"


class BadDefinition(InvalidWorkflow):
    """The definition is not a workflow that can be run."""

    code = "bad_definition"


class UnknownWorkflow(ActorError):
    """There is no workflow of that name."""

    code = "unknown_workflow"


class UnknownRole(ActorError):
    """There is no role of that name."""

    code = "unknown_role"


class AnswerRejected(ActorError):
    """The answer does not fit its role."""

    code = "answer_rejected"
    retryable = True


class PromptTooLarge(ActorError):
    """The instructions alone are longer than the prompt may be."""

    code = "prompt_too_large"
    hint = "Give the model a longer context in its profile."


class FunctionFailed(ActorError):
    """The agent's function failed."""

    code = "function_failed"
    retryable = True


class ApplicationNotUsable(ActorError):
    """The application cannot be used."""

    code = "application_not_usable"
    hint = "See examples/own_agent.py."


class RoleTaken(ApplicationNotUsable):
    """The role is taken."""

    code = "role_taken"
    hint = "Give the agent's role another name."


class InvalidRole(ApplicationNotUsable):
    """That cannot name a role."""

    code = "invalid_role"
    hint = "A role is named by 1 to 64 small letters."


class ServersNotUsable(ActorError):
    """The file of MCP servers cannot be used."""

    code = "servers_not_usable"
    hint = "Its form stands at the top of actors/mcp_servers.py."


class ModelAsked(ActorError):
    """A model was asked where none may be: a replay has its answers from the log."""

    code = "model_asked"


class CannotCheck(ActorError):
    """The answer cannot be asked for again as it was."""

    code = "cannot_check"


class CannotReplay(ActorError):
    """What was said in the run is erased: its decisions cannot be made again."""

    code = "cannot_replay"


class CannotFork(ActorError):
    """The run cannot branch off there, or not with those changes."""

    code = "cannot_fork"


class UnknownForkEvent(CannotFork):
    """The run has no such event."""

    code = "unknown_fork_event"
    hint = "See its events with: swarm events RUN."


class EnrolmentRefused(ActorError):
    """The enrolment was not granted by this authority."""

    code = "enrolment_refused"


class EnrolmentBarred(EnrolmentRefused):
    """The member's key was revoked, and it was not enrolled again."""

    code = "enrolment_barred"
    hint = "Let it back in with: swarm keys enrol NAME."


class KeyRetired(ActorError):
    """The member is to go on under a new key."""

    code = "key_retired"


class QuestionRefused(ActorError):
    """The memory does not answer that question of that member."""

    code = "question_refused"


class ItemNameTaken(ActorError):
    """No new item of the memory is called so: the name stands for something else in an address."""

    code = "item_name_taken"


class MemoryUnavailable(ActorError):
    """Nobody answers for the memory just now."""

    code = "memory_unavailable"
    retryable = True


class MemorySealed(MemoryUnavailable):
    """The memory is not given the key to an event, and keeps nothing that follows."""

    code = "memory_sealed"
    hint = (
        "See that SWARM_HOME/keys/subjects is whole and can be read by the user of the swarm,"
        " and that the policy lets the role memory unseal."
    )


class ToolError(ActorError):
    """The tool failed."""

    code = "tool_error"


class InvalidTool(ToolError):
    """That cannot be a tool."""

    code = "invalid_tool"
    hint = "See examples/own_tool.py."


class ToolMisused(ToolError):
    """These are no arguments for the tool."""

    code = "tool_misused"


class ToolFailed(ToolError):
    """The tool failed."""

    code = "tool_failed"


class ServerFailed(ToolError):
    """The MCP server failed."""

    code = "mcp_server_failed"
    retryable = True


class SandboxUnavailable(ToolError):
    """This machine cannot contain a program; nothing was run."""

    code = "sandbox_unavailable"
    hint = (
        "Programs of agents need Linux 5.14 or newer, user namespaces that whoever runs the "
        "swarm may make (user.max_user_namespaces, a container's seccomp profile), and pytest. "
        "Without them leave SWARM_CODE_TOOL off."
    )


class SandboxFailed(ToolError):
    """The sandbox was ended from outside."""

    code = "sandbox_failed"
    retryable = True


class UnusableFiles(ToolError):
    """These files are no program for the sandbox."""

    code = "unusable_files"
