"""A systemd unit that starts the swarm with the machine. Pure.

Quoting by systemd.syntax(7) and systemd.service(5): values stand in double quotes, a percent sign
begins a specifier, a dollar sign in a command line a variable; each doubled stands for itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import ConfigurationError

_UNIT = """\
[Unit]
Description=vllm-swarm in {home}
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
WorkingDirectory={folder}
{environment}
ExecStart={up}
ExecStop={down}
TimeoutStartSec=30min
TimeoutStopSec=5min

[Install]
WantedBy=default.target
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What is to be started.

    Attributes:
        program: the `swarm` command, by its whole path.
        arguments: of `swarm up`.
        folder: where its `.env` is looked for.
        environment: what is set besides; no secrets: a unit may be read by everybody.
        home: of the swarm, for its description.
    """

    program: Path
    arguments: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    home: Path

    def text(self) -> str:
        """The unit's file.

        Raises:
            ConfigurationError: a path or value that no unit can hold.
        """
        start = [str(self.program), "up", *self.arguments]
        return _UNIT.format(
            home=_plain(str(self.home)),
            folder=_plain(str(self.folder)),
            environment="\n".join(
                f"Environment={_quoted(f'{name}={value}')}"
                for name, value in self.environment.items()
            ),
            up=" ".join(_word(each) for each in start),
            down=f"{_word(str(self.program))} down",
        )


def _plain(value: str) -> str:
    """A value that is taken as it is, but for specifiers; blanks at its ends would be lost."""
    if any(each < " " or each == "\x7f" for each in value) or value != value.strip():
        raise ConfigurationError(f"A unit cannot hold {value!r}: use another path.")
    return value.replace("%", "%%")


def _quoted(value: str) -> str:
    escaped = _plain(f"x{value}x")[1:-1].replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _word(value: str) -> str:
    return _quoted(value).replace("$", "$$")
