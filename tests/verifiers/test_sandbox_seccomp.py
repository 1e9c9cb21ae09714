"""The system call filter on both architectures, by a small interpreter of its code."""

from __future__ import annotations

import errno
from functools import lru_cache
from pathlib import Path

import pytest

from flywheel.verifiers import sandbox
from flywheel.verifiers.sandbox import seccomp

Level = sandbox.Level


filter_of = lru_cache(seccomp.program)


def answer(policy: seccomp.Policy, machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    """What the kernel would do with a call."""
    words = {0: number, 4: architecture or seccomp.ARCHITECTURES[machine]}
    words |= {16 + 8 * i: a & 0xFFFFFFFF for i, a in enumerate(arguments)}
    lines, at, value = filter_of(policy, machine), 0, 0
    while True:
        code, yes, no, operand = lines[at]
        at += 1
        if code == 0x06:
            return operand
        if code == 0x20:
            value = words.get(operand, 0)
        else:
            holds = {0x15: value == operand, 0x25: value > operand, 0x45: bool(value & operand)}[code]
            at += yes if holds else no


ALLOW, KILL, EPERM, ENOSYS = 0x7FFF0000, 0x80000000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS


@pytest.mark.parametrize("machine", list(seccomp.ARCHITECTURES))
def test_the_filter_on_both_architectures(machine: str) -> None:
    column = list(seccomp.ARCHITECTURES).index(machine)
    free, tight = seccomp.Policy(True, True), seccomp.Policy(False, False, only_pid=77)

    def ask(policy: seccomp.Policy, name: str, *arguments: int) -> int:
        number = seccomp.NUMBERS[name][column]
        assert number is not None
        return answer(policy, machine, number, *arguments)

    for name in seccomp.REFUSED:
        if seccomp.NUMBERS[name][column] is not None:
            assert ask(free, name) == EPERM and ask(tight, name) == EPERM, name
    assert ask(free, "clone", 17) == ALLOW and ask(tight, "clone", 17) == EPERM
    assert ask(tight, "clone", 0x10000 | 0x100) == ALLOW and ask(tight, "clone", 0x10000 | 0x20000000) == EPERM
    assert ask(free, "clone3") == ENOSYS
    assert ask(free, "socketpair", 1) == ALLOW and ask(free, "socketpair", 2) == EPERM
    assert ask(free, "kill", 5) == ALLOW and ask(tight, "kill", 5) == EPERM and ask(tight, "kill", 77) == ALLOW
    assert ask(tight, "prlimit64", 0) == ALLOW and ask(tight, "prlimit64", 5) == EPERM
    assert ask(tight, "prctl", 1) == EPERM and ask(tight, "prctl", 15) == ALLOW
    assert ask(tight, "fcntl", 3, 8) == EPERM and ask(tight, "fcntl", 3, 1) == ALLOW
    assert ask(free, "ioctl", 0, 0x5412) == EPERM and ask(free, "ioctl", 0, 0x5401) == ALLOW
    assert answer(free, machine, 39) in (ALLOW, EPERM) and answer(free, machine, seccomp.NEWEST + 1) == ENOSYS
    assert answer(free, machine, 0x40000000 + 41) == KILL
    assert answer(free, machine, 0, architecture=0x40000003) == KILL
    other = next(a for m, a in seccomp.ARCHITECTURES.items() if m != machine)
    assert answer(free, machine, 0, architecture=other) == KILL


@pytest.mark.parametrize("machine", list(seccomp.ARCHITECTURES))
@pytest.mark.parametrize("namespaces", [True, False])
def test_a_starters_filter_and_its_jobs_are_together_the_whole(machine: str, namespaces: bool) -> None:
    whole = seccomp.Policy(False, namespaces, only_pid=77)
    starter = whole._replace(part=seccomp.Part.STARTER, only_pid=None)  # it starts many, and knows no number yet
    started = whole._replace(part=seccomp.Part.STARTED)
    strictness = [KILL, EPERM, ENOSYS, ALLOW]
    for number in (*range(seccomp.NEWEST + 9), 0x40000000 + 41):
        for argument in (0, 1, 2, 8, 15, 17, 35, 77, 0x5412, 0x10000, 0x10000011, 0x20010000):
            parts = [answer(p, machine, number, argument, argument) for p in (starter, started)]
            assert min(parts, key=strictness.index) == answer(whole, machine, number, argument, argument), number
    assert len(seccomp.program(started, machine)) < len(seccomp.program(starter, machine)) / 2
    clone = seccomp.NUMBERS["clone"][list(seccomp.ARCHITECTURES).index(machine)]
    assert clone is not None and answer(starter, machine, clone, 0x30000011) == ALLOW


@pytest.mark.skipif(not Path("/usr/include/asm-generic/unistd.h").exists(), reason="the kernel's headers are not there")
def test_the_numbers_are_the_kernels() -> None:
    import re

    files = {"x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "aarch64": "/usr/include/asm-generic/unistd.h"}
    for column, (machine, file) in enumerate(files.items()):
        if not Path(file).exists():
            continue
        known = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", Path(file).read_text()))
        for name, numbers in seccomp.NUMBERS.items():
            if name in known:
                assert str(numbers[column]) == known[name], (machine, name)
            else:  # of the other architecture, or newer than these headers
                assert name in ("memfd_secret", "fchmodat2") or numbers[column] is None, (machine, name)
