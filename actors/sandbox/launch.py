"""Becomes the sandbox: `python -s -S -P -m actors.sandbox.launch`, started by `sandbox.py`.

The request is read from stdin, which then is the lifeline: once it is closed, all ends. The
program's output goes to stdout and stderr, the report to the descriptor that is its argument.

A process cannot say by itself which users its new user namespace has. A child that stays
outside says it.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Final

from actors.sandbox import jail, system, warden
from actors.sandbox.request import Report, Request

LENGTH_BYTES: Final = 8
"""How long the number is, before the request, that tells the length of it."""
_LIFELINE: Final = 0


def main() -> None:
    """Run what stdin asks for; the report is written even if the kernel refuses."""
    system.die_with_parent(signal.SIGKILL)
    request = Request.from_json(_read(int.from_bytes(_read(LENGTH_BYTES), "big")))
    report = int(sys.argv[1])
    os.set_inheritable(report, False)
    os.umask(0o022)
    try:
        _leave(request.uid)
        first = os.fork()
    except OSError as error:
        _tell(report, Report(refused=str(error)))
        return
    if first == 0:
        _be_the_first(request, report)
    # Else whoever reads them would wait for this process as well.
    for descriptor in (report, 1, 2):
        os.close(descriptor)
    os.waitpid(first, 0)


def _be_the_first(request: Request, report: int) -> None:
    try:
        system.die_with_parent(signal.SIGKILL)
        _tell(report, _run(request))
    except Exception as error:  # noqa: BLE001 - this process ends here, and whoever reads is told
        os.write(2, f"the sandbox broke: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(0)


def _run(request: Request) -> Report:
    try:
        proc = jail.build(request)
    except (OSError, KeyError) as error:
        return Report(refused=f"{type(error).__name__}: {error}")
    return warden.watch(request, proc, _LIFELINE)


def _leave(uid: int) -> None:
    """Go to new namespaces, where this process may do what the jail needs.

    Raises:
        OSError: the kernel refuses.
    """
    outside = os.getpid()
    own_uid, own_gid = os.geteuid(), os.getegid()
    left, told = os.pipe()
    clerk = os.fork()
    if clerk == 0:
        os._exit(_register(outside, uid, own_uid, own_gid, left, told))
    os.close(left)
    try:
        system.unshare(system.NAMESPACES)
        os.write(told, b".")
    finally:
        os.close(told)
        _, status = os.waitpid(clerk, 0)
    code = os.waitstatus_to_exitcode(status)
    if code:
        raise OSError(code, f"map the users of a user namespace: {os.strerror(code)}")


def _register(process: int, uid: int, own_uid: int, own_gid: int, left: int, told: int) -> int:
    """Say which users the process has in its user namespace; gives an error's number, or 0.

    The program runs as a user that owns nothing. Without root's rights that is whoever runs
    this, under another number; who is root maps a user that owns nothing on the machine.
    """
    os.close(told)
    if not os.read(left, 1):
        return 0  # it could not leave, and says so itself
    folder = Path(f"/proc/{process}")
    try:
        if own_uid == 0:
            system.write_file(folder / "uid_map", f"0 0 1\n{uid} {uid} 1\n")
            system.write_file(folder / "gid_map", f"0 0 1\n{uid} {uid} 1\n")
        else:
            system.write_file(folder / "uid_map", f"{uid} {own_uid} 1\n")
            system.write_file(folder / "setgroups", "deny")
            system.write_file(folder / "gid_map", f"{uid} {own_gid} 1\n")
    except OSError as error:
        return error.errno or 1
    return 0


def _read(size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = os.read(_LIFELINE, size - len(parts))
        if not part:
            sys.exit("the request was cut off")
        parts += part
    return bytes(parts)


def _tell(descriptor: int, report: Report) -> None:
    os.write(descriptor, report.to_json())


if __name__ == "__main__":
    main()
