"""The kernel's calls that Python has no function for, through ctypes. Standard library only: runs inside."""

from __future__ import annotations

import ctypes
import os
import struct

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_SECCOMP = 1, 4, 8, 22
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 36, 38, 47
PR_CAP_AMBIENT_RAISE, PR_CAP_AMBIENT_CLEAR_ALL = 2, 4
CLONE_NEWUSER, CLONE_NEWPID = 0x10000000, 0x20000000
SIGCHLD = 17
NOBODY = 65534
"""The uid and gid that root becomes before anything untrusted runs."""
CAP_DAC_READ_SEARCH = 2
_CAPABILITY_VERSION_3 = 0x20080522
_NO_CAPABILITIES_HEAD, _NO_CAPABILITIES = struct.pack("Ii", _CAPABILITY_VERSION_3, 0), bytes(24)
_CLONE = {"x86_64": 56, "aarch64": 220}.get(os.uname().machine, -1)

_libc = ctypes.CDLL(None, use_errno=True)
# Without releasing the interpreter's lock: what comes back from a raw clone must still hold it.
_locked_libc = ctypes.PyDLL(None, use_errno=True)
# Looked up here, since the first use of a name costs, and what a fork uses first each of them would pay for.
_clone, _capset, _prctl = _locked_libc.syscall, _libc.capset, _libc.prctl
_before_fork, _after_fork_in_parent, _after_fork_in_child = (
    getattr(ctypes.pythonapi, f"PyOS_{when}") for when in ("BeforeFork", "AfterFork_Parent", "AfterFork_Child")
)


def syscall(number: int, *arguments: int | ctypes.c_void_p | bytes | None) -> int:
    """A raw system call. Raises OSError."""
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result: int = _libc.syscall(ctypes.c_long(number), *wide)
    if result < 0:
        raise _error(f"system call {number}")
    return result


def prctl(option: int, *values: int | ctypes.c_void_p) -> None:
    """`prctl(2)`. Raises OSError."""
    padded = [ctypes.c_ulong(v) if isinstance(v, int) else v for v in (*values, 0, 0, 0, 0)[:4]]
    if _prctl(option, *padded) < 0:
        raise _error(f"prctl {option}")


def die_with_parent(parent: int, signal_number: int) -> None:
    """Have the kernel signal this process when its parent ends; end at once if it has ended already.

    A change of uid clears this, so it comes after one.
    """
    prctl(PR_SET_PDEATHSIG, signal_number)
    if os.getppid() != parent:
        os._exit(1)


def clone(flags: int) -> int:
    """Fork into new namespaces in one call; 0 in the child. Only for a process with a single thread. Raises OSError.

    One clone, not unshare and fork: the new user namespace then owns the other new ones, so the caller needs no
    privilege, and the child is process 1 of its process namespace, whose end ends all in it.
    """
    number, wide = ctypes.c_long(_CLONE), ctypes.c_long(flags | SIGCHLD)
    _before_fork()
    pid: int = _clone(number, wide, 0, 0, 0, 0)
    if pid == 0:
        _after_fork_in_child()
        return 0
    error = ctypes.get_errno()
    _after_fork_in_parent()
    if pid < 0:
        raise OSError(error, f"clone into new namespaces: {os.strerror(error)}")
    return pid


def unshare(flags: int) -> None:
    """`unshare(2)`. Raises OSError."""
    if _libc.unshare(flags) < 0:
        raise _error("unshare")


def enter_user_namespace() -> None:
    """Move this process into a user namespace of its own, in which its uid and gid keep their numbers."""
    uid, gid = os.geteuid(), os.getegid()  # read before: not yet mapped, both are the overflow number
    prctl(PR_SET_DUMPABLE, 1)  # a change of uid has made /proc/self root's
    unshare(CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


# -- users ------------------------------------------------------------------------------------------


def has_user_to_drop_to() -> bool:
    """Whether this is root and `NOBODY` exists for it (a user namespace may hold uid 0 alone: no real root)."""
    if os.geteuid() != 0:
        return False
    with open("/proc/self/uid_map") as file:
        ranges = [[int(word) for word in line.split()] for line in file]
    return any(first <= NOBODY < first + count for first, _, count in ranges)


def drop_user(*, keep_search: bool) -> None:
    """Become `NOBODY`, for good. Raises OSError.

    `keep_search` keeps the one capability to read and search past file permissions: without a mount namespace an
    interpreter below root's closed home could not be reached otherwise. What can be read is then Landlock's matter.
    """
    if keep_search:
        prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    if keep_search:
        try:
            set_capabilities(1 << CAP_DAC_READ_SEARCH)
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_READ_SEARCH)
        except PermissionError:  # a container that has taken this capability from root
            set_capabilities(0)
    prctl(PR_SET_DUMPABLE, 1)


def set_capabilities(mask: int) -> None:
    """Keep exactly the capabilities of `mask` (bits by number), here and in what is executed. Raises OSError."""
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    data = struct.pack("6I", low, low, low, high, high, high)
    if _capset(header, data) < 0:
        raise _error("capset")
    if mask == 0:
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)


def drop_capabilities() -> None:
    """Keep none. For the first process of a user namespace, whose ambient set is empty. Raises OSError."""
    if _capset(_NO_CAPABILITIES_HEAD, _NO_CAPABILITIES) < 0:
        raise _error("capset")


def tasks_of_this_user() -> int:
    """How many processes and threads this uid runs in all; 0 where `/proc` does not say."""
    uid, count = os.geteuid(), 0
    for folder in os.scandir("/proc"):
        if not folder.name.isdigit():
            continue
        try:
            if folder.stat().st_uid == uid:
                count += sum(1 for _ in os.scandir(f"{folder.path}/task"))
        except OSError:  # it ended just now, or is not ours to look at
            continue
    return count


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
