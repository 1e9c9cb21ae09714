"""Seccomp: which system calls a sandboxed program is refused, by a filter of our own. Standard library; runs inside.

A list of refusals, not of permissions: any interpreter must run. Refused is what reaches past the process: the network,
other processes, mounts and namespaces, kernel-wide settings and memory that outlives its owner. Calls newer than this
list do not exist for the program, and another architecture's calling convention is deadly, since its numbers differ.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from flywheel.verifiers.sandbox import system

_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _EQUAL, _ABOVE, _ANY_BIT, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000
_INSTRUCTION = struct.Struct("HBBI")
NEWEST = 462
"""The last system call (mseal, Linux 6.10) that this list was made with; numbers above it do not exist inside."""

_NAMESPACES = 0x7E020000  # clone's flags for new mount, cgroup, uts, ipc, user, process and net namespaces
_THREAD = 0x00010000
_SECCOMP_MODE_FILTER = 2

# name: numbers on x86_64 and aarch64; None where the architecture has no such call.
NUMBERS: dict[str, tuple[int | None, int | None]] = {
    # other processes
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "process_madvise": (440, 440), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424), "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "prlimit64": (302, 261), "fcntl": (72, 25),
    "setpriority": (141, 140), "ioprio_set": (251, 30), "sched_setparam": (142, 118), "sched_setattr": (314, 274),
    "sched_setscheduler": (144, 119), "sched_setaffinity": (203, 122), "migrate_pages": (256, 238),
    "move_pages": (279, 239), "setsid": (112, 157), "setpgid": (109, 154), "prctl": (157, 167),
    "fork": (57, None), "vfork": (58, None), "clone": (56, 220), "clone3": (435, 435),
    # the network
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    # mounts and namespaces
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "unshare": (272, 97), "setns": (308, 268),
    "swapon": (167, 224), "swapoff": (168, 225), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    # the kernel
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "fanotify_init": (300, 262),
    "lookup_dcookie": (212, 18), "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "reboot": (169, 142), "syslog": (103, 116), "acct": (163, 89), "quotactl": (179, 60),
    "quotactl_fd": (443, 443), "sethostname": (170, 161), "setdomainname": (171, 162), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171), "iopl": (172, None),
    "ioperm": (173, None), "modify_ldt": (154, None), "vhangup": (153, 58), "personality": (135, 92),
    "ioctl": (16, 29),
    # memory and queues that outlive their owner, or that no other limit counts
    "shmget": (29, 194), "shmat": (30, 196), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
    "memfd_create": (319, 279), "memfd_secret": (447, 447),
    # what Landlock does not see of files
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None),
    "utimensat": (280, 88), "futimesat": (261, None), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "truncate": (76, 45), "mknod": (133, None), "mknodat": (259, 33),
}  # fmt: skip

REFUSED = [
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "kcmp",
    "process_madvise",
    "pidfd_open",
    "pidfd_getfd",
    "socket",
    "connect",
    "bind",
    "listen",
    "accept",
    "accept4",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "mount",
    "umount2",
    "pivot_root",
    "chroot",
    "open_tree",
    "move_mount",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "mount_setattr",
    "unshare",
    "setns",
    "swapon",
    "swapoff",
    "name_to_handle_at",
    "open_by_handle_at",
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "fanotify_init",
    "lookup_dcookie",
    "add_key",
    "request_key",
    "keyctl",
    "kexec_load",
    "kexec_file_load",
    "init_module",
    "finit_module",
    "delete_module",
    "reboot",
    "syslog",
    "acct",
    "quotactl",
    "quotactl_fd",
    "sethostname",
    "setdomainname",
    "settimeofday",
    "clock_settime",
    "clock_adjtime",
    "adjtimex",
    "iopl",
    "ioperm",
    "modify_ldt",
    "vhangup",
    "personality",
    "shmget",
    "shmat",
    "msgget",
    "semget",
    "mq_open",
    "memfd_create",
    "memfd_secret",
]

# Where no namespace hides the rest of the machine: what the same user's other processes and files would suffer from,
# and what would leave the process group by which all is killed in the end.
REFUSED_WITHOUT_NAMESPACES = [
    "setsid",
    "setpgid",
    "setpriority",
    "ioprio_set",
    "sched_setparam",
    "sched_setattr",
    "sched_setscheduler",
    "sched_setaffinity",
    "migrate_pages",
    "move_pages",
    "chmod",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "chown",
    "fchown",
    "lchown",
    "fchownat",
    "utime",
    "utimes",
    "utimensat",
    "futimesat",
    "setxattr",
    "lsetxattr",
    "fsetxattr",
    "removexattr",
    "lremovexattr",
    "fremovexattr",
    "truncate",
    "mknod",
    "mknodat",
]
_SIGNALS = ("kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")  # their first argument is a process

_TERMINAL_INPUT = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: typing for the user
_SIGNAL_OWNERS = (8, 10, 15)  # F_SETOWN, F_SETSIG, F_SETOWN_EX: have the kernel signal somebody else
_OWN_PRCTLS = (1, 35, 36)  # PDEATHSIG, MM, CHILD_SUBREAPER: what ties a process to us
_NEEDED_TO_START = frozenset(
    {"clone", "fork", "setsid", "pidfd_open", "prctl", *_SIGNALS, "tkill", "pidfd_send_signal"}
)
_UNIX = 1
_SHORT = 3
"""Cases that are looked for one after another."""


class Part(Enum):
    """Of a policy, which refusals a filter has.

    A process that starts others takes on those that it can live with; what it starts inherits them and adds the
    others, a filter of a few lines. The kernel goes by the strictest of all filters, so both together are the whole.
    """

    WHOLE = "whole"
    STARTER = "starter"
    STARTED = "started"


class Policy(NamedTuple):
    """What a filter refuses beyond `REFUSED`.

    `fork`: processes may be started. `namespaces`: process, mount and user namespaces hide the machine, so signals,
    modes and the like need no refusal. `only_pid`: the one process that signals may go to, where Landlock is too
    old to hold them.
    """

    fork: bool
    namespaces: bool
    only_pid: int | None = None
    part: Part = Part.WHOLE


Instruction = tuple[int, int, int, int]


def program(policy: Policy, machine: str) -> list[Instruction]:
    """The filter as (code, jump if true, jump if false, operand). Raises KeyError for an unknown machine."""
    column = list(ARCHITECTURES).index(machine)
    refuse = _ERRNO | errno.EPERM
    lines: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 1, 0, ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_ABOVE, 0, 1, _X32 - 1),
        (_RETURN, 0, 0, _KILL),
        (_ABOVE, 0, 1, NEWEST),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
    ]

    cases: dict[int, Sequence[Instruction]] = {}

    def at(name: str, body: Sequence[Instruction]) -> None:
        number = NUMBERS[name][column]
        here = policy.part is Part.WHOLE or (name in _NEEDED_TO_START) is (policy.part is Part.STARTED)
        if number is not None and here:
            cases[number] = body

    names = [*REFUSED, *([] if policy.namespaces else REFUSED_WITHOUT_NAMESPACES)]
    names += [] if policy.fork else ["fork", "vfork"]
    for name in names:
        at(name, [(_RETURN, 0, 0, refuse)])
    at("clone3", [(_RETURN, 0, 0, _ERRNO | errno.ENOSYS)])  # its flags lie in memory, out of sight; libc falls back
    at("clone", _clone(policy.fork, refuse))
    at("socketpair", [_argument(0), (_EQUAL, 1, 0, _UNIX), (_RETURN, 0, 0, refuse), (_RETURN, 0, 0, _ALLOW)])
    at("ioctl", _unless_among(1, _TERMINAL_INPUT, refuse))
    if not policy.namespaces:
        at("prctl", _unless_among(0, _OWN_PRCTLS, refuse))
        at("fcntl", _unless_among(1, _SIGNAL_OWNERS, refuse))
        at("prlimit64", [_argument(0), (_EQUAL, 1, 0, 0), (_RETURN, 0, 0, refuse), (_RETURN, 0, 0, _ALLOW)])
        if policy.only_pid is not None:
            own: list[Instruction] = [_argument(0), (_EQUAL, 1, 0, policy.only_pid), (_RETURN, 0, 0, refuse)]
            for name in _SIGNALS:
                at(name, [*own, (_RETURN, 0, 0, _ALLOW)])
            for name in ("tkill", "pidfd_send_signal"):
                at(name, [(_RETURN, 0, 0, refuse)])
    return lines + _search(sorted(cases.items()))


def _search(cases: Sequence[tuple[int, Sequence[Instruction]]]) -> list[Instruction]:
    """A binary search for the call's number; what is not among the cases is allowed.

    The kernel runs a filter once for every number when it is installed: with a list, that alone takes a third of a
    millisecond a process.
    """
    if len(cases) <= _SHORT:
        tests = [line for number, body in cases for line in ((_EQUAL, 0, len(body), number), *body)]
        return [*tests, (_RETURN, 0, 0, _ALLOW)]
    half = len(cases) // 2
    low, high = _search(cases[:half]), _search(cases[half:])
    return [(_ABOVE, len(low), 0, cases[half - 1][0]), *low, *high]


def _argument(index: int) -> Instruction:
    return (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * index)


def _unless_among(argument: int, values: Sequence[int], refuse: int) -> list[Instruction]:
    tests = [(_EQUAL, len(values) - i, 0, value) for i, value in enumerate(values)]
    return [_argument(argument), *tests, (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, refuse)]


def _clone(fork: bool, refuse: int) -> list[Instruction]:
    thread: list[Instruction] = [] if fork else [(_ANY_BIT, 1, 0, _THREAD), (_RETURN, 0, 0, refuse)]
    return [_argument(0), (_ANY_BIT, 0, 1, _NAMESPACES), (_RETURN, 0, 0, refuse), *thread, (_RETURN, 0, 0, _ALLOW)]


def install(policy: Policy) -> None:
    """Hold this process and its children to the filter, for good; sets `no_new_privs`. Raises OSError."""
    system.prctl(system.PR_SET_NO_NEW_PRIVS, 1)
    take_on(Packed(policy))


class Packed:
    """A filter as the kernel reads it. Made once by a process that forks many to hold to it."""

    def __init__(self, policy: Policy) -> None:
        lines = b"".join(_INSTRUCTION.pack(*line) for line in program(policy, os.uname().machine))
        self._code = (ctypes.c_char * len(lines)).from_buffer_copy(lines)  # lives as long as what points to it
        head = struct.pack("HxxxxxxP", len(lines) // _INSTRUCTION.size, ctypes.addressof(self._code))
        self._head = (ctypes.c_char * len(head)).from_buffer_copy(head)
        self.at = ctypes.c_void_p(ctypes.addressof(self._head))


def take_on(filter_code: Packed) -> None:
    """As `install`, where `no_new_privs` is set and the filter is made. Raises OSError."""
    system.prctl(system.PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, filter_code.at)
