"""The sandbox as an ordinary user, as root, and where a container refuses user namespaces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from flywheel.verifiers import sandbox

# Runs as a process of its own: becomes `uid` with a Python it can reach (this one's may lie in a closed home), or
# takes namespaces away as a container's filter does, and then judges.
AS_OTHER = """
import ctypes, json, os, sys
uid, place, refuse, arguments = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "refuse", sys.argv[4:]
libc = ctypes.CDLL(None, use_errno=True)
if uid != os.getuid():
    assert libc.unshare(0x20000) == 0
    assert libc.mount(b"none", b"/", None, 0x4000 | 0x40000, None) == 0
    assert libc.mount(os.path.realpath(sys.base_prefix).encode(), place.encode(), None, 0x1000 | 0x4000, None) == 0
if refuse:
    from flywheel.verifiers.sandbox import seccomp
    seccomp.REFUSED[:] = ["unshare", "setns", "mount", "umount2"]
    seccomp.install(seccomp.Policy(fork=True, namespaces=True))
program = sys.executable
if uid != os.getuid():
    os.setgroups([]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
    program = place + "/bin/" + os.path.basename(os.path.realpath(sys.executable))
os.execve(program, [program, "-s", "-P", "-c", *arguments], os.environ)
"""
JUDGE = """
import json, os
from flywheel import Problem
from flywheel.errors import UserError
from flywheel.verifiers import sandbox
from flywheel.verifiers.unit_tests import UnitTests
problem = Problem("p", "", "x", meta={"test": "assert f(2) == 4", "entry_point": "f"})
out = {"uid": os.getuid(), "found": sandbox.self_test()}
for level in sandbox.Level:
    try:
        made = UnitTests(min_level=level, seconds=20.0)
    except UserError as error:
        out[level] = str(error)
        continue
    out[level] = [made.isolation, *(made.verify(problem, f"def f(x): return {t}").outcome for t in ("x * 2", "x"))]
    made.close()
finished = sandbox.run(["/bin/sh", "-c", "echo $HOME; cat given"], level=sandbox.choose(), files={"given": b"text"})
out["run"] = [finished.exit_code, finished.stdout.decode().splitlines()[1]]
print(json.dumps(out))
"""


def judge_as(uid: int, *, refuse: bool) -> dict[str, object]:
    """What `JUDGE` finds as a user, with or without namespaces."""
    if uid != os.getuid() and os.getuid() != 0:
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory(prefix="flywheel-python-") as place:
        Path(place).chmod(0o755)
        path = os.pathsep.join(p for p in sys.path if p and not p.startswith(os.path.realpath(sys.base_prefix)))
        finders = "import sys; sys.path[:0] = []\n"
        environment = {"PYTHONPATH": path, "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
        words = [sys.executable, "-c", AS_OTHER, str(uid), place, "refuse" if refuse else "allow", finders + IMPORTS + JUDGE]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout))


# An editable install maps our folders by a hook of site-packages, which a bare interpreter does not run.
IMPORTS = f"""
import importlib.util, types
def place(name, folder):
    spec = importlib.util.spec_from_file_location(name, folder + "/__init__.py", submodule_search_locations=[folder])
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
place("flywheel", {str(Path(__import__("flywheel").__file__).parent)!r})
place("flywheel.verifiers", {str(Path(sandbox.__file__).parents[1])!r})
"""


@pytest.mark.parametrize("uid", [0, 1000])
def test_it_judges_as_root_and_as_an_ordinary_user(uid: int) -> None:
    found = judge_as(uid, refuse=False)
    assert found["uid"] == uid
    best = next(level for level in sandbox.Level if not found["found"][level])  # type: ignore[index]
    assert found["landlock"] == [best, "correct", "wrong"], found
    assert found["run"] == [0, "text"]
    if not sandbox.self_test()[sandbox.Level.NAMESPACES]:
        assert found["namespaces"] == ["namespaces", "correct", "wrong"]


@pytest.mark.parametrize("uid", [0, 1000])
def test_without_namespaces_it_falls_to_landlock_or_says_what_is_missing(uid: int) -> None:
    if sandbox.self_test()[sandbox.Level.LANDLOCK]:
        pytest.skip("no Landlock here")
    found = judge_as(uid, refuse=True)
    assert found["landlock"] == ["landlock", "correct", "wrong"], found
    assert found["unsafe"] == ["landlock", "correct", "wrong"], "the best that works, not the worst that may"
    assert found["run"] == [0, "text"]
    refusal = str(found["namespaces"])
    assert "\n" not in refusal
    assert "user namespaces are refused here" in refusal and 'min_level = "landlock"' in refusal
