"""Landlock: which files a process and its children may touch, by raw system calls. Standard library only: runs inside.

A process gives itself a ruleset and cannot take it off again. It works for any user, in containers too, and knows
nothing of UDP, of chmod and its kin or of a program's own descriptors: seccomp stands beside it for the first two.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable, Sequence

from flywheel.verifiers.sandbox import system

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION, _PATH_BENEATH = 1, 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_DEVICE_KINDS = 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11  # making device nodes, sockets and pipes
_FS_BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_NET = 0b11  # bind and connect TCP, from version 4 on
_SCOPES = 0b11  # abstract unix sockets and signals to the outside, from version 6 on
SCOPED_SIGNALS = 6
"""The version from which on Landlock stops signals to processes outside."""


def version() -> int:
    """The kernel's Landlock version; 0 where it has none, or it is switched off."""
    try:
        return system.syscall(_CREATE, None, 0, _VERSION)
    except OSError:
        return 0


def make_ruleset(
    readable: Iterable[str], writable: Iterable[str], devices: Iterable[str], listable: Iterable[str] = ()
) -> int:
    """A descriptor of the rules: `readable` trees to read and execute, `writable` to do all but make devices in.

    Of `listable` trees only names can be seen. Paths that are not there are passed over. Raises OSError where the
    kernel has no Landlock.
    """
    known = version()
    handled = (1 << _FS_BITS.get(known, 16)) - 1
    network = _NET if known >= 4 else 0
    scopes = _SCOPES if known >= SCOPED_SIGNALS else 0
    size = 24 if known >= SCOPED_SIGNALS else 16 if known >= 4 else 8
    attributes = struct.pack("QQQ", handled, network, scopes)[:size]
    ruleset = system.syscall(_CREATE, attributes, size, 0)
    for path in readable:
        _allow(ruleset, path, _READ & handled)
    for path in listable:
        _allow(ruleset, path, _READ_DIR & handled)
    for path in writable:
        _allow(ruleset, path, handled & ~_DEVICE_KINDS)
    for path in devices:
        _allow(ruleset, path, (_READ_FILE | _WRITE_FILE) & handled)
    return ruleset


def restrict(ruleset: int) -> None:
    """Hold this process to the rules from here on; `no_new_privs` must be set. Raises OSError."""
    system.syscall(_RESTRICT, ruleset, 0)


def _allow(ruleset: int, path: str, access: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            access &= _OF_FILES
        rule = struct.pack("=Qi", access, descriptor)
        system.syscall(_ADD, ruleset, _PATH_BENEATH, ctypes.cast(ctypes.c_char_p(rule), ctypes.c_void_p), 0)
    finally:
        os.close(descriptor)


def without(trees: Sequence[str], hidden: Sequence[str]) -> tuple[list[str], list[str]]:
    """`trees` as paths that leave the `hidden` folders below them out, and the folders taken apart for it.

    Rules can only add, so what lies beside a hidden folder is allowed one by one. The folders on the way must stay
    listable (an interpreter finds its modules so), which shows the names in hidden folders, and nothing more.
    """
    kept: list[str] = []
    apart: list[str] = []
    for tree in trees:
        below = [h for h in hidden if h == tree or h.startswith(tree.rstrip("/") + "/")]
        if tree in below:
            continue
        if not below:
            kept.append(tree)
            continue
        apart.append(tree)
        with os.scandir(tree) as entries:  # a link's target is in the list under its own path, or is not meant to be
            inner = without(sorted(e.path for e in entries if not e.is_symlink()), below)
        kept += inner[0]
    return kept, apart
