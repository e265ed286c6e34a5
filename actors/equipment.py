"""Which tools the agents of a swarm are given besides those that their own classes name."""

from dataclasses import dataclass

from actors.code_tool import code_tools
from actors.mcp_servers import ServersSource
from actors.step_agent import StepAgent
from actors.tool import Tool
from actors.toolbox import Toolbox
from policies.capabilities import Capabilities


@dataclass(frozen=True, slots=True, kw_only=True)
class Equipment:
    """What is given; without anything, agents work with their model alone.

    Attributes:
        code: whether the coder and the tester may run code, where the policy lets them.
        servers: MCP servers whose tools the roles that they name may call, where it lets them.
    """

    code: bool = False
    servers: ServersSource | None = None

    async def toolbox(self, agent: StepAgent | type[StepAgent], policy: Capabilities) -> Toolbox:
        """The tools of an agent, or of any of its kind.

        Raises:
            InvalidTool: two have the same name.
            ServersNotUsable: the servers cannot be read.
        """
        code = code_tools(agent.role) if self.code else ()
        tools = (*agent.tools, *code, *await self._of_servers(agent.role))
        return Toolbox(agent.role, tools, policy)

    async def _of_servers(self, role: str) -> list[Tool]:
        if self.servers is None:
            return []
        # Only here: it takes an agent's process half a second that most have no use for.
        from actors.mcp_tool import tools_of  # noqa: PLC0415

        return await tools_of(self.servers.servers(), role)
