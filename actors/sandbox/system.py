"""The system calls of Linux that Python has no function for.

Source: the manual pages of the calls; numbers from 424 on are the same on every processor.
"""

import ctypes
import os
import platform
from pathlib import Path
from typing import Final

CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000
NAMESPACES: Final = (
    CLONE_NEWNS
    | CLONE_NEWCGROUP
    | CLONE_NEWUTS
    | CLONE_NEWIPC
    | CLONE_NEWUSER
    | CLONE_NEWPID
    | CLONE_NEWNET
)

MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_REC: Final = 0x4000
MS_PRIVATE: Final = 0x40000
_MS_REMOUNT: Final = 0x20
_MS_RDONLY: Final = 1
_MNT_DETACH: Final = 2

_PIVOT_ROOT: Final = {"x86_64": 155, "aarch64": 41}
_OPEN_TREE: Final = 428
_MOVE_MOUNT: Final = 429
_MOUNT_SETATTR: Final = 442
_AT_FDCWD: Final = -100
_AT_EMPTY_PATH: Final = 0x1000
_AT_RECURSIVE: Final = 0x8000
_OPEN_TREE_CLONE: Final = 1
_MOVE_MOUNT_F_EMPTY_PATH: Final = 4
_ATTR_RDONLY: Final = 0x1
_ATTR_NOSUID: Final = 0x2
_ATTR_NODEV: Final = 0x4
_ATTR_NOEXEC: Final = 0x8

_PR_SET_PDEATHSIG: Final = 1
_PR_CAPBSET_READ: Final = 23
_PR_CAPBSET_DROP: Final = 24
_PR_SET_SECCOMP: Final = 22
_PR_SET_NO_NEW_PRIVS: Final = 38
_SECCOMP_MODE_FILTER: Final = 2
_CAPABILITY_VERSION_3: Final = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


def unshare(flags: int) -> None:
    """Leave namespaces for new ones.

    Raises:
        OSError: the kernel refuses; likewise of all that follow.
    """
    _checked("unshare", _libc.unshare(ctypes.c_int(flags)))


def mount(kind: str, target: str, flags: int, options: str = "") -> None:
    """Mount a file system of a kind that has no device."""
    _checked(
        f"mount {kind or 'propagation'} on {target}",
        _libc.mount(
            kind.encode() or None,
            target.encode(),
            kind.encode() or None,
            ctypes.c_ulong(flags),
            options.encode() or None,
        ),
    )


def seal_mount(target: str) -> None:
    """Let nobody write to a file system any more."""
    flags = _MS_REMOUNT | _MS_RDONLY | MS_NOSUID | MS_NODEV
    mount("", target, flags)


def detach(target: str) -> None:
    """Take a mount out of the tree; who has it open keeps it."""
    _checked(f"umount {target}", _libc.umount2(target.encode(), _MNT_DETACH))


def clone_tree(path: str, *, writable: bool = False, device: bool = False) -> int:
    """A copy of a folder or file and all that is mounted in it, not yet put anywhere.

    It is read only and has no devices, unless it is to be written to, or is a device itself.
    """
    what = f"clone the mount of {path}"
    flags = _OPEN_TREE_CLONE | _AT_RECURSIVE | os.O_CLOEXEC
    tree = _syscall(what, _OPEN_TREE, ctypes.c_int(_AT_FDCWD), path.encode(), ctypes.c_uint(flags))
    wanted = _ATTR_NOSUID | (_ATTR_NOEXEC if device else _ATTR_NODEV)
    wanted |= 0 if device or writable else _ATTR_RDONLY
    attributes = _MountAttributes(attr_set=wanted)
    _syscall(
        what,
        _MOUNT_SETATTR,
        ctypes.c_int(tree),
        b"",
        ctypes.c_uint(_AT_EMPTY_PATH | _AT_RECURSIVE),
        ctypes.byref(attributes),
        ctypes.c_size_t(ctypes.sizeof(attributes)),
    )
    return tree


def attach_tree(tree: int, target: str) -> None:
    """Put what `clone_tree` made on a folder or file."""
    _syscall(
        f"attach a mount to {target}",
        _MOVE_MOUNT,
        ctypes.c_int(tree),
        b"",
        ctypes.c_int(_AT_FDCWD),
        target.encode(),
        ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH),
    )
    os.close(tree)


def pivot_root(target: str) -> None:
    """Make a mounted folder the root, and let go of the old one."""
    os.chdir(target)
    _syscall("pivot_root", _PIVOT_ROOT[platform.machine()], b".", b".")
    detach(".")
    os.chdir("/")


def die_with_parent(signal: int) -> None:
    """Have the kernel send the signal when the parent is gone."""
    _prctl(_PR_SET_PDEATHSIG, signal)


def drop_bounding_set() -> None:
    """Give up every capability for whatever is executed from here on."""
    capability = 0
    while _libc.prctl(_PR_CAPBSET_READ, ctypes.c_ulong(capability), 0, 0, 0) >= 0:
        _prctl(_PR_CAPBSET_DROP, capability)
        capability += 1


def drop_capabilities() -> None:
    """Give up every capability now."""
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _checked("capset", _libc.capset(ctypes.byref(header), ctypes.byref(nothing)))


def gain_nothing() -> None:
    """Let no program that is executed from here on gain a privilege."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def install_filter(program: bytes) -> None:
    """Have each system call pass a filter of 8 byte instructions, for good."""
    filter_program = _FilterProgram(len(program) // 8, program)
    result = _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(filter_program), 0, 0)
    _checked("seccomp", result)


def write_file(path: Path, text: str) -> None:
    """Write to a file of the kernel's, at once."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _prctl(option: int, value: int) -> None:
    _checked(f"prctl {option}", _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0))


def _syscall(what: str, number: int, *arguments: object) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    return _checked(what, result)


def _checked(what: str, result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
