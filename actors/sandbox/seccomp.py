"""The system calls that a program in the sandbox may not make, as a filter for the kernel. Pure.

What is refused reaches past the namespaces (sockets of a virtual machine's host, keys), keeps
memory where nobody counts it, makes namespaces anew, or is a part of the kernel that no Python
program of some lines needs and in which holes were found.
Source: seccomp(2), linux/filter.h, linux/seccomp.h, and the tables of system calls.
"""

import errno
import struct
from typing import Final

_LD_WORD: Final = 0x20
_JUMP_EQUAL: Final = 0x15
_JUMP_AT_LEAST: Final = 0x35
_JUMP_ANY_BIT: Final = 0x45
_RETURN: Final = 0x06

_ALLOW: Final = 0x7FFF0000
_KILL: Final = 0x80000000
_ERROR: Final = 0x00050000

_NUMBER: Final = 0
_ARCHITECTURE: Final = 4
_FIRST_ARGUMENT: Final = 16
_X32: Final = 0x40000000
"""Numbers from here on are those of another interface of the x86_64 kernel."""

_NAMESPACES: Final = 0x7E020000
_FAMILIES: Final = (1, 2, 10)
"""AF_UNIX, and AF_INET and AF_INET6, for which the network namespace has no way out. AF_VSOCK
would reach the host of a virtual machine from any namespace."""

_AUDIT: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE: Final = {"x86_64": 56, "aarch64": 220}
_CLONE3: Final = 435
_SOCKETS: Final = {"x86_64": (41, 53), "aarch64": (198, 199)}
"""socket, socketpair."""

_ANYWHERE: Final = {
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
    "memfd_secret": 447,  # nosec B105
}
REFUSED: Final = {
    "x86_64": {
        **_ANYWHERE,
        "shmget": 29,
        "semget": 64,
        "msgget": 68,
        "ptrace": 101,
        "syslog": 103,
        "modify_ldt": 154,
        "pivot_root": 155,
        "chroot": 161,
        "mount": 165,
        "umount2": 166,
        "mq_open": 240,
        "add_key": 248,
        "request_key": 249,
        "keyctl": 250,
        "unshare": 272,
        "move_pages": 279,
        "perf_event_open": 298,
        "fanotify_init": 300,
        "name_to_handle_at": 303,
        "open_by_handle_at": 304,
        "setns": 308,
        "process_vm_readv": 310,
        "process_vm_writev": 311,
        "kcmp": 312,
        "memfd_create": 319,
        "bpf": 321,
        "userfaultfd": 323,
    },
    "aarch64": {
        **_ANYWHERE,
        "umount2": 39,
        "mount": 40,
        "pivot_root": 41,
        "chroot": 51,
        "unshare": 97,
        "syslog": 116,
        "ptrace": 117,
        "mq_open": 180,
        "msgget": 186,
        "semget": 190,
        "shmget": 194,
        "add_key": 217,
        "request_key": 218,
        "keyctl": 219,
        "move_pages": 239,
        "perf_event_open": 241,
        "fanotify_init": 262,
        "name_to_handle_at": 264,
        "open_by_handle_at": 265,
        "setns": 268,
        "process_vm_readv": 270,
        "process_vm_writev": 271,
        "kcmp": 272,
        "memfd_create": 279,
        "bpf": 280,
        "userfaultfd": 282,
    },
}
"""Numbers by the processor and the name of the call."""


def seccomp_filter(machine: str) -> bytes:
    """The filter for a processor, in instructions of 8 bytes.

    Raises:
        KeyError: there is no table for it.
    """
    clone, (socket, socketpair) = _CLONE[machine], _SOCKETS[machine]
    lines = [
        _line(_LD_WORD, _ARCHITECTURE),
        _line(_JUMP_EQUAL, _AUDIT[machine], yes=1),
        _line(_RETURN, _KILL),
        _line(_LD_WORD, _NUMBER),
        *_answer(_JUMP_AT_LEAST, _X32, errno.EPERM),
        # The C library falls back to clone, whose flags a filter can read.
        *_answer(_JUMP_EQUAL, _CLONE3, errno.ENOSYS),
    ]
    for number in sorted(REFUSED[machine].values()):
        lines += _answer(_JUMP_EQUAL, number, errno.EPERM)
    lines += [
        _line(_JUMP_EQUAL, clone, no=3),
        _line(_LD_WORD, _FIRST_ARGUMENT),
        *_answer(_JUMP_ANY_BIT, _NAMESPACES, errno.EPERM),
        _line(_LD_WORD, _NUMBER),
        _line(_JUMP_EQUAL, socket, yes=1),
        _line(_JUMP_EQUAL, socketpair, no=len(_FAMILIES) + 2),
        _line(_LD_WORD, _FIRST_ARGUMENT),
    ]
    for place, family in enumerate(_FAMILIES):
        lines.append(_line(_JUMP_EQUAL, family, yes=len(_FAMILIES) - place))
    lines += [_line(_RETURN, _ERROR | errno.EAFNOSUPPORT), _line(_RETURN, _ALLOW)]
    return b"".join(lines)


def _answer(jump: int, value: int, number: int) -> tuple[bytes, bytes]:
    """Refuse what matches with an error."""
    return _line(jump, value, no=1), _line(_RETURN, _ERROR | number)


def _line(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)
