"""What a swarm on this machine leaves for its user in SWARM_HOME: its address, a password."""

import json
import os
from pathlib import Path
from typing import Any, Final

from swarm.errors import NotAuthenticated, NotReachable

DEFAULT_HOME: Final = Path("~/.swarm")
ADMIN: Final = "admin"
"""The user whose password the swarm writes down when it first starts."""
_READY: Final = "ready"


def find_home(home: Path | str | None = None) -> Path:
    """The directory of the swarm: the one given, or SWARM_HOME, or ~/.swarm."""
    if home is None:
        # The SDK's own edge: it must not import the settings of the whole cluster.
        home = os.environ.get("SWARM_HOME") or DEFAULT_HOME  # noqa: TID251
    return Path(home).expanduser()


def gateway_url(home: Path) -> str:
    """The address of the gateway of the swarm that runs in this home.

    Reads ``run/state.json`` as cluster/state.py writes it, of which only the phase and
    the gateway's address matter here. Where the swarm was killed, another program may listen
    at the address by now: it is to be told no password.

    Raises:
        NotReachable: no swarm is running there, or it is not ready.
    """
    state = _state(home)
    try:
        phase, url = state["phase"], state["addresses"]["gateway"]
    except (KeyError, TypeError) as error:
        raise _unreadable(home) from error
    if phase == _READY and not _is_held(home):
        raise NotReachable(f"No swarm is running in {home}: the last one was killed.")
    if phase != _READY or not isinstance(url, str) or not url:
        raise NotReachable(f"The swarm in {home} is not ready: it is {str(phase)[:20]}.")
    return url


def gateway_certificate(home: Path) -> Path | None:
    """The file with the certificate of that gateway, None where it speaks plain HTTP.

    Raises:
        NotReachable: no swarm is running there.
    """
    found = _state(home).get("gateway_certificate")
    return Path(found) if isinstance(found, str) else None


def admin_password(home: Path) -> str:
    """The password of the user "admin".

    Raises:
        NotAuthenticated: it cannot be read.
    """
    path = home / "keys" / "admin.password"
    try:
        password = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise NotAuthenticated(f"The password in {path} cannot be read.") from error
    if not password:
        raise NotAuthenticated(f"There is no password in {path}.")
    return password


def _state(home: Path) -> dict[str, Any]:
    try:
        state = json.loads((home / "run" / "state.json").read_bytes())
    except FileNotFoundError as error:
        raise NotReachable(f"No swarm is running in {home}.") from error
    except (OSError, ValueError) as error:
        raise _unreadable(home) from error
    if not isinstance(state, dict):
        raise _unreadable(home)
    return state


def _is_held(home: Path) -> bool:
    """Whether the home's lock is held: by its swarm, or a guard that has a supervisor follow.

    The system gives it up for who is killed. Commands that work with a killed swarm's servers
    (``swarm recover``) hold it too. A process id would tell more, but nothing to who reads the
    home from inside a container.
    """
    import fcntl  # noqa: PLC0415  not on every system on which the SDK asks a swarm elsewhere

    try:
        descriptor = os.open(home / "run" / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unreadable(home) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _unreadable(home: Path) -> NotReachable:
    return NotReachable(f"The state of the swarm in {home} cannot be read.")
