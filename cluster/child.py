"""Run by `python -I -S child.py`: tie this process to its parent, drop root, become a server.

It runs as a program of its own, and not between fork and exec of the supervisor, because the
supervisor has threads (Ray's), and Python code in a forked child of such a process can deadlock.
It imports nothing of ours and little else: it delays every start by its own.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2

CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAPABILITY_VERSION_3 = 0x20080522


def main(arguments: list[str]) -> None:
    """Arguments: parent pid, death signal, user id or -1, group id, then the command."""
    parent, death_signal, user, group = (int(argument) for argument in arguments[:4])
    command = arguments[4:]
    libc = ctypes.CDLL(None, use_errno=True)
    if user >= 0:
        _become(libc, user, group)
    # After the change of user, which would clear it.
    _check(libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0))
    if os.getppid() != parent:  # it died before the line above
        sys.exit(1)
    try:
        os.execv(command[0], command)  # nosec B606 # noqa: S606  no shell, by intent
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


def _become(libc: ctypes.CDLL, user: int, group: int) -> None:
    """Give up root for `user`, but keep what it takes to reach a private home.

    Postgres refuses to run as root. Under another user it could not enter a SWARM_HOME of mode
    0700, nor perhaps the virtual environment; opening those to everyone would be worse than one
    capability: to read past permissions, and only where it is missing (as it is in a container),
    to write past them too.
    """
    capability = CAP_DAC_READ_SEARCH
    if not _permitted() >> capability & 1:
        capability = CAP_DAC_OVERRIDE
    keeps = bool(_permitted() >> capability & 1)
    _check(libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0))
    os.setgroups([])
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)
    if keeps:
        mask = 1 << capability
        header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
        sets = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
        _check(libc.capset(header, sets))
        _check(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0))


def _permitted() -> int:
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123  no pathlib: slow
        for line in status:
            if line.startswith("CapPrm:"):
                return int(line.split()[1], 16)
    return 0


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    main(sys.argv[1:])
