"""Programs that want to pass without solving the problem, or to get out: none is CORRECT, and nothing of them is left."""

# Whole programs stand here as one string each.
# ruff: noqa: E501

from __future__ import annotations

import os
import tempfile
import threading
import time
from pathlib import Path

import pytest

from flywheel import Outcome, Problem
from flywheel.verifiers import sandbox
from flywheel.verifiers.unit_tests import UnitTests

SECRET = 918_273_645  # stands in the tests alone: an expected value that a program could only have stolen
PROMPT = '''def add_up(xs):
    """ The sum of the squares of xs.
    >>> add_up([1, 2])
    5
    >>> add_up([3])
    9
    """
'''
TESTS = f"""
EXPECTED = {SECRET}
def check(candidate):
    assert candidate([1, 2]) == 5
    assert candidate([3]) == 9
    assert candidate([]) == 0
    assert candidate([30303, 12, 6]) == EXPECTED - {SECRET - 918_271_989}
    ones = [1] * 3
    assert candidate(ones) == 3 and ones == [1, 1, 1]
"""
PROBLEM = Problem(
    "adversary", PROMPT, "    return sum(x * x for x in xs)\n", meta={"test": TESTS, "entry_point": "add_up"}
)
RIGHT = "def add_up(xs):\n    return sum(x * x for x in xs)\n"

ALWAYS_EQUAL = """
class Yes(int):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
    def __bool__(self): return True
"""
# Finds the tests or expected values wherever Python can look, and returns what it finds.
SEARCH = f"""
import re
def found(text):
    return "EXPECTED" in text or "{SECRET}" in text
"""
PRIVATE_CHANNEL = """
import os, socket, struct
def channels():
    for number in range(3, 64):
        try:
            yield socket.socket(fileno=os.dup(number))
        except OSError:
            pass
"""

HACKS: dict[str, str] = {
    # how a process ends
    "sys.exit": "import sys\nsys.exit(0)\ndef add_up(xs): return 0",
    "sys.exit in the call": "import sys\ndef add_up(xs): sys.exit(0)",
    "os._exit": "import os\nos._exit(0)\ndef add_up(xs): return 0",
    "os._exit in the call": "import os\ndef add_up(xs): os._exit(0)",
    "patched os._exit": "import os\nos._exit = lambda code: None\ndef add_up(xs): return 0",
    "atexit": "import atexit, os\natexit.register(os._exit, 0)\ndef add_up(xs): return 0",
    "raises SystemExit": "def add_up(xs): raise SystemExit(0)",
    "raises KeyboardInterrupt": "def add_up(xs): raise KeyboardInterrupt",
    "raises AssertionError with a pass": "def add_up(xs): raise AssertionError('passed')",
    "kills itself": "import os, signal\ndef add_up(xs): os.kill(os.getpid(), signal.SIGKILL)",
    "segfault": "import ctypes\ndef add_up(xs): ctypes.string_at(0)",
    # what a value can do
    "always equal": ALWAYS_EQUAL + "def add_up(xs): return Yes(0)",
    "always equal object": "class Y:\n    __eq__ = lambda s, o: True\n    __hash__ = None\ndef add_up(xs): return Y()",
    "always equal string": "class S(str):\n    __eq__ = lambda s, o: True\n    __hash__ = None\ndef add_up(xs): return S()",
    "reduce": "class R:\n    def __reduce__(self): return (exec, ('import os; os._exit(0)',))\ndef add_up(xs): return R()",
    "a class of its own as int": "class int(int):\n    __eq__ = lambda s, o: True\ndef add_up(xs): return int(1)",
    "equal by iterator": "def add_up(xs):\n    yield from range(10)",
    "changes the argument": "def add_up(xs):\n    r = sum(x * x for x in xs)\n    xs.append(0)\n    return r",
    "huge integer": "def add_up(xs): return 1 << (1 << 27)",
    "huge string": "def add_up(xs): return 'x' * (1 << 28)",
    "deep list": "def add_up(xs):\n    r = []\n    for _ in range(100000): r = [r]\n    return r",
    "endless recursion": "def add_up(xs): return add_up(xs)",
    "endless iterator": "import itertools\ndef add_up(xs): return itertools.count()",
    # patches
    "patched builtins": "import builtins\nfor n in ('abs', 'sum', 'len', 'isinstance', 'all'):\n"
    "    setattr(builtins, n, lambda *a, **k: True)\ndef add_up(xs): return True",
    "patched AssertionError": "import builtins\nbuiltins.AssertionError = type('A', (Exception,), {})\n"
    "def add_up(xs): return None",
    "patched exec": "import builtins\nbuiltins.exec = builtins.compile = lambda *a, **k: None\ndef add_up(xs): return 0",
    "patched math": "import math\nmath.isclose = lambda *a, **k: True\ndef add_up(xs): return math.nan",
    "patched numpy": "import sys, types\nsys.modules['numpy'] = types.ModuleType('numpy')\n"
    "sys.modules['numpy'].allclose = lambda *a, **k: True\ndef add_up(xs): return -1",
    "patched judge": "import sys, types\nj = types.ModuleType('j')\nj.rule = lambda *a: ('correct', '')\n"
    "sys.modules['flywheel.verifiers.unit_tests_judge'] = j\ndef add_up(xs): return 0",
    "redefined judge": "import flywheel.verifiers.unit_tests_judge as j\nj.rule = lambda *a: ('correct', '')\n"
    "j.json.dumps = lambda *a: '[\"correct\", \"\", 1, true, \"\"]'\ndef add_up(xs): return 0",
    "redefined codec": "from flywheel.verifiers.sandbox import codec\ncodec.encode = lambda *a: b'T'\n"
    "def add_up(xs): return 0",
    "tracing": "import sys\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: None)\ndef add_up(xs): return 0",
    # looking for the tests
    "frames": SEARCH + """
import sys
def add_up(xs):
    frame = sys._getframe()
    while frame:
        for value in [*frame.f_locals.values(), *frame.f_globals.values()]:
            if found(repr(value)[:100000]) and 'found(text)' not in repr(value): return 918_271_989 + 180
        frame = frame.f_back
    return 0
""",
    "gc": SEARCH + """
import gc
def add_up(xs):
    for o in gc.get_objects():
        if isinstance(o, dict) and 'check' in o and 'EXPECTED' in o:
            return sum(x * x for x in xs)
    return 0
""",
    "own memory": SEARCH + """
import ctypes, sys
def add_up(xs):
    import gc
    texts = [o for o in gc.get_objects() if isinstance(o, (str, bytes))]
    return sum(x * x for x in xs) if any(b'def check(candi' in bytes(t, 'utf8') for t in texts if isinstance(t, str)) else 0
""",
    "/proc memory": """
import os
def add_up(xs):
    for pid in os.listdir('/proc'):
        if pid.isdigit():
            for line in open(f'/proc/{pid}/maps'):
                a, b = (int(x, 16) for x in line.split()[0].split('-'))
                with open(f'/proc/{pid}/mem', 'rb') as m:
                    m.seek(a)
                    if b'def check(candidate)' in m.read(b - a): return sum(x * x for x in xs)
    return 0
""",
    "/proc descriptors": """
import glob
def add_up(xs):
    for p in glob.glob('/proc/*/fd/*'):
        if 'def check' in open(p, errors='replace').read(): return sum(x * x for x in xs)
    return 0
""",
    "environment": """
import os, glob
def add_up(xs):
    text = repr(os.environ) + ''.join(open(p).read() for p in glob.glob('/proc/*/environ'))
    return sum(x * x for x in xs) if 'PYTEST_CURRENT_TEST' in text or 'FLYWHEEL' in text else 0
""",
    "descriptors": """
import os
def add_up(xs):
    for n in range(64):
        try:
            if b'def check' in os.pread(n, 1 << 20, 0): return sum(x * x for x in xs)
        except OSError: pass
    return 0
""",
    "disk": f"""
import os
def add_up(xs):
    for folder, _, names in os.walk('/'):
        for name in names:
            try: text = open(os.path.join(folder, name), 'rb').read(1 << 16)
            except OSError: continue
            if b'{SECRET // 1000}' b'_' in text: return sum(x * x for x in xs)
        if folder.count('/') > 3: break
    return 0
""",
    "this very test's file": f"def add_up(xs):\n    open({__file__!r})\n    return sum(x * x for x in xs)",
    "debugger": "import ctypes\nl = ctypes.CDLL(None)\ndef add_up(xs):\n    for p in range(2, 400):\n"
    "        if l.ptrace(16, p, 0, 0) == 0: return sum(x * x for x in xs)\n    return 0",
    # the examples that the prompt shows
    "the visible examples": "def add_up(xs): return {'[1, 2]': 5, '[3]': 9}.get(repr(xs), 0)",
    "the prompt's doctests": "import re\ndef add_up(xs):\n    return {(1, 2): 5, (3,): 9, (): 0}.get(tuple(xs))",
    # the private connection
    "forged answers": PRIVATE_CHANNEL + """
def add_up(xs):
    for c in channels():
        try: c.send(struct.pack('<I', 1) + b'T')
        except OSError: pass
    return sum(x * x for x in xs)
""",
    "answers twice": """
from flywheel.verifiers import unit_tests_channel as u
send = u.Channel.send
def twice(self, value, strange=None):
    send(self, value, strange)
    send(self, value, strange)
u.Channel.send = twice
def add_up(xs): return sum(x * x for x in xs)
""",
    "answers twice at the end": """
from flywheel.verifiers import unit_tests_channel as u
send, calls = u.Channel.send, []
def twice(self, value, strange=None):
    send(self, value, strange)
    calls.append(1)
    if len(calls) == 6: send(self, value, strange)
u.Channel.send = twice
def add_up(xs): return sum(x * x for x in xs)
""",
    "another id": """
from flywheel.verifiers import unit_tests_channel as u
send = u.Channel.send
def other(self, value, strange=None):
    send(self, (value[0] + 1, *value[1:]) if isinstance(value[0], int) else value, strange)
u.Channel.send = other
def add_up(xs): return sum(x * x for x in xs)
""",
    "answers with rubbish": PRIVATE_CHANNEL + """
import random
for c in channels():
    try: c.send(bytes(random.randrange(256) for _ in range(5000)))
    except OSError: pass
def add_up(xs): return sum(x * x for x in xs)
""",
    "a message without end": PRIVATE_CHANNEL + """
def add_up(xs):
    for c in channels():
        try:
            c.send(b'\\xff\\xff\\xff\\x7f')
            while True: c.send(b'x' * 65536)
        except OSError: pass
""",
    "closes its descriptors": "import os\ndef add_up(xs):\n    os.closerange(0, 64)\n    return sum(x * x for x in xs)",
    "sends descriptors": PRIVATE_CHANNEL + """
def add_up(xs):
    for c in channels():
        try: socket.send_fds(c, [b'\\x01'], [0, 1, 2] * 20)
        except OSError: pass
    return sum(x * x for x in xs)
""",
    "prints a verdict": "print('[\"correct\", \"\", 5, true, \"\"]')\nimport os\nfor n in range(1, 9):\n    try: "
    "os.write(n, b'[\"correct\", \"\", 5, true, \"\"]')\n    except OSError: pass\ndef add_up(xs): return 0",
    # resources
    "sleeps": "import time\ndef add_up(xs): time.sleep(60)",
    "sleeps while loaded": "import time\ntime.sleep(60)\ndef add_up(xs): return 0",
    "spins": "def add_up(xs):\n    while True: pass",
    "ignores signals": "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n"
    "    except (OSError, ValueError): pass\ndef add_up(xs):\n    while True: pass",
    "memory bomb": "def add_up(xs):\n    x = [bytearray(1 << 26) for _ in range(1000)]\n    return 0",
    "fork bomb": "import os\ndef add_up(xs):\n    while True:\n        try: os.fork()\n        except OSError: return 0",
    "thread bomb": "import threading, time\ndef add_up(xs):\n    try:\n        while True: threading.Thread(target=time.sleep,"
    " args=(99,)).start()\n    except RuntimeError: return 0",
    "daemon": "import os, time\ndef add_up(xs):\n    if os.fork() == 0:\n        os.setsid()\n        if os.fork() == 0:\n"
    "            time.sleep(600)\n        os._exit(0)\n    return sum(x * x for x in xs)",
    "subprocess": "import subprocess\ndef add_up(xs):\n    subprocess.Popen(['/bin/sleep', '600'])\n    return sum(x * x for x in xs)",
    "multiprocessing": "import multiprocessing as m\ndef add_up(xs):\n    with m.Pool(2) as p: return sum(p.map(abs, xs))",
    "output flood": "import sys\ndef add_up(xs):\n    while True: sys.stdout.write('x' * 65536)",
    "opens files without end": "def add_up(xs):\n    f = []\n    while True: f.append(open('/dev/null'))",
    "signals everyone": "import os, signal\ndef add_up(xs):\n    os.kill(-1, signal.SIGKILL)\n    return 0",
    "kills its parent": "import os, signal\ndef add_up(xs):\n    os.kill(os.getppid(), signal.SIGKILL)\n    return 0",
    # getting out: each is right only where it got out
    "writes outside": "def add_up(xs):\n    open('/tmp/flywheel-escaped', 'w').write('x')\n    return sum(x * x for x in xs)",
    "writes at home": "import os\ndef add_up(xs):\n    open(os.path.expanduser('~/escaped'), 'w')\n    return sum(x * x for x in xs)",
    "reads the machine": "def add_up(xs):\n    open('/etc/passwd')\n    return sum(x * x for x in xs)",
    "installed packages": "import pyarrow\ndef add_up(xs): return sum(x * x for x in xs)",
    "tcp": "import socket\ndef add_up(xs):\n    socket.create_connection(('127.0.0.1', 9), 1)\n    return sum(x * x for x in xs)",
    "udp": "import socket\ndef add_up(xs):\n    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))\n"
    "    return sum(x * x for x in xs)",
    "unix socket": "import socket\ndef add_up(xs):\n    socket.socket(socket.AF_UNIX).bind('\\0flywheel')\n    return sum(x * x for x in xs)",
    "netlink": "import socket\ndef add_up(xs):\n    socket.socket(16, socket.SOCK_RAW, 0)\n    return sum(x * x for x in xs)",
    "namespaces": "import ctypes\ndef add_up(xs):\n    l = ctypes.CDLL(None)\n    return sum(x * x for x in xs) if l.unshare(0x10000000) == 0 else 0",
    "mounts": "import ctypes\ndef add_up(xs):\n    l = ctypes.CDLL(None)\n    return sum(x * x for x in xs) if l.mount(b'x', b'/', b'tmpfs', 0, 0) == 0 else 0",
    "memory file": "import os\ndef add_up(xs):\n    os.memfd_create('x')\n    return sum(x * x for x in xs)",
    "shared memory": "import ctypes\ndef add_up(xs):\n    l = ctypes.CDLL(None)\n    return sum(x * x for x in xs) if l.shmget(7, 4096, 0o1777) >= 0 else 0",
    "becomes root": "import os\ndef add_up(xs):\n    os.setuid(0)\n    return sum(x * x for x in xs)",
}  # fmt: skip

LEVELS = [sandbox.Level.NAMESPACES, sandbox.Level.LANDLOCK]


def working(level: sandbox.Level) -> sandbox.Level:
    if why := sandbox.self_test()[level]:
        pytest.skip(f"{level} does not work here: {why}")
    return level


@pytest.fixture(scope="module", params=LEVELS)
def verifier(request: pytest.FixtureRequest):
    """At each level in turn; afterwards nothing of what the programs started or wrote is left."""
    level = working(request.param)
    threads, before = threading.active_count(), traces()
    made = UnitTests(seconds=1.0, memory_mib=256)
    made._level = level
    made.verify(PROBLEM, RIGHT)
    warm = traces()
    yield made
    assert {k: v for k, v in traces().items() if k != "descriptors"} == {
        k: v for k, v in warm.items() if k != "descriptors"
    }
    assert traces()["descriptors"] <= warm["descriptors"] + 2  # a judge that was replaced has other numbers
    made.close()
    deadline = time.monotonic() + 5
    while traces() != before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert traces() == before
    assert threading.active_count() == threads


def traces() -> dict[str, object]:
    """What a program could leave: processes below this one, open descriptors, files where it could hope to write."""
    me, below = os.getpid(), 0
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    for pid in parents:
        while pid in parents and pid != me:
            pid = parents[pid]
        below += pid == me
    homes = sorted(p.name for place in (Path.home(), Path("/tmp")) for p in place.glob("*escaped*"))
    cells = sorted(p.name for p in Path(tempfile.gettempdir()).glob("flywheel-sandbox-*"))
    return {
        "processes": below,
        "descriptors": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        "files": homes,
        "cells": cells,
    }


def test_there_are_enough() -> None:
    assert len(HACKS) >= 40


@pytest.mark.parametrize("name", HACKS)
def test_no_hack_passes(verifier: UnitTests, name: str) -> None:
    judgement = verifier.verify(PROBLEM, f"```python\n{HACKS[name]}\n```")
    assert judgement.outcome in (Outcome.WRONG, Outcome.TIMEOUT), (judgement, name)
    # Whatever it did, it did not hurt the next one.
    assert verifier.verify(PROBLEM, f"```python\n{RIGHT}```").outcome is Outcome.CORRECT


LEAVES = """
import os
def add_up(xs):
    for number in (0, 1, 2):
        try:
            os.write(number, b"left for the next one")
        except OSError:
            pass
    return sum(x * x for x in xs)
"""
FINDS = """
import os
def add_up(xs):
    for number in range(64):
        try:
            if os.fstat(number).st_size or os.pread(number, 1, 0):
                return sum(x * x for x in xs)
        except OSError:
            pass
    return 0
"""


def test_one_candidate_leaves_nothing_for_the_next(verifier: UnitTests) -> None:
    assert verifier.verify(PROBLEM, LEAVES).outcome is Outcome.CORRECT
    assert verifier.verify(PROBLEM, FINDS).outcome is Outcome.WRONG
