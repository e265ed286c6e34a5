"""What a swarm on this machine leaves for its user in SWARM_HOME: its address, a password."""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import psutil

from swarm.errors import NotAuthenticated, NotReachable

DEFAULT_HOME: Final = Path("~/.swarm")
ADMIN: Final = "admin"
"""The user whose password the swarm writes down when it first starts."""
_READY: Final = "ready"
_MARKER: Final = "SWARM_INSTANCE"
"""What cluster/settings.py gives every process of a swarm, with the digest of its home."""
_START_TOLERANCE_S: Final = 2.0


def find_home(home: Path | str | None = None) -> Path:
    """The directory of the swarm: the one given, or SWARM_HOME, or ~/.swarm."""
    if home is None:
        # The SDK's own edge: it must not import the settings of the whole cluster.
        home = os.environ.get("SWARM_HOME") or DEFAULT_HOME  # noqa: TID251
    return Path(home).expanduser()


def gateway_url(home: Path) -> str:
    """The address of the gateway of the swarm that runs in this home.

    Reads ``run/state.json`` as cluster/state.py writes it, of which only the phase, the
    gateway's address and who keeps the swarm up matter here. Where that was killed, another
    program may listen at the address by now: it is to be told no password.

    Raises:
        NotReachable: no swarm is running there, or it is not ready.
    """
    state = _state(home)
    try:
        phase, url = state["phase"], state["addresses"]["gateway"]
        is_dead = phase == _READY and not _lives(state, home)
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(home) from error
    if is_dead:
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


def _lives(state: dict[str, Any], home: Path) -> bool:
    """Whether its supervisor still runs, or its guard, which has another one follow.

    By now other programs may have their process ids: those do not bear the home's mark.
    """
    mark = hashlib.sha256(os.fsencode(os.path.realpath(home))).hexdigest()[:16]
    for pid in (state["guard_pid"], state["supervisor_pid"]):
        with suppress(psutil.Error, OSError):
            if psutil.Process(pid).environ().get(_MARKER) == mark:
                return True
    with suppress(psutil.NoSuchProcess):  # as cluster/state.py tells it
        supervisor = psutil.Process(state["supervisor_pid"])
        late_s = abs(supervisor.create_time() - state["supervisor_started"])
        return late_s < _START_TOLERANCE_S and supervisor.status() != psutil.STATUS_ZOMBIE
    return False


def _unreadable(home: Path) -> NotReachable:
    return NotReachable(f"The state of the swarm in {home} cannot be read.")
