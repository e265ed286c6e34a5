"""Which tools the agents of a swarm are given besides those that their own classes name."""

from dataclasses import dataclass

from actors.code_tool import code_tools
from actors.step_agent import StepAgent
from actors.toolbox import Toolbox
from policies.capabilities import Capabilities


@dataclass(frozen=True, slots=True, kw_only=True)
class Equipment:
    """What is given; without anything, agents work with their model alone.

    Attributes:
        code: whether the coder and the tester may run code, where the policy lets them.
    """

    code: bool = False

    def toolbox(self, agent: StepAgent, policy: Capabilities) -> Toolbox:
        """The tools of an agent.

        Raises:
            InvalidTool: two have the same name.
        """
        code = code_tools(agent.role) if self.code else ()
        return Toolbox(agent.role, (*agent.tools, *code), policy)
