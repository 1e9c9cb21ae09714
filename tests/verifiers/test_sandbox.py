"""The sandbox's guards, each with what it stands against; a test here fails when its guard is taken out."""

# Whole programs stand here as one string each.
# ruff: noqa: E501, UP031

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from flywheel.verifiers import sandbox
from flywheel.verifiers.sandbox import bwrap, seccomp

Level, Limits = sandbox.Level, sandbox.Limits
CONFINED = [Level.NAMESPACES, Level.LANDLOCK]
PYTHON = [bwrap.interpreter(), "-I", "-S", "-c"]


def run(code: str, level: sandbox.Level, **more: object) -> sandbox.Finished:
    if why := sandbox.self_test()[level]:
        pytest.skip(f"{level} does not work here: {why}")
    limits = more.pop("limits", None) or Limits(wall_seconds=20.0)
    return sandbox.run([*PYTHON, code], level=level, limits=limits, **more)  # type: ignore[arg-type]


def processes_with(mark: str) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                if mark.encode() in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


def gone(mark: str, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while processes_with(mark) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not processes_with(mark)


# -- what a run is ------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", list(Level))
def test_a_run_gets_its_files_and_input_and_leaves_nothing(level: sandbox.Level) -> None:
    before = set(Path(tempfile.gettempdir()).glob("flywheel-sandbox-*"))
    code = "import os, sys; open('new', 'w').write('x'); print(sorted(os.listdir()), open('a/b').read(), sys.stdin.read(), end='')"
    code += "; sys.stderr.write('e'); sys.exit(3)"
    finished = run(code, level, stdin=b"fed", files={"a/b": b"given"})
    assert (finished.exit_code, finished.signal, finished.timed_out) == (3, None, False)
    assert finished.stdout == b"['a', 'new'] given fed" and finished.stderr == b"e"
    assert set(Path(tempfile.gettempdir()).glob("flywheel-sandbox-*")) == before


@pytest.mark.parametrize("level", list(Level))
def test_a_signal_is_told_from_an_exit_code(level: sandbox.Level) -> None:
    finished = run("import os; os.kill(os.getpid(), 9)", level)
    assert (finished.exit_code, finished.signal) == (None, signal.SIGKILL)
    assert run("import os; os._exit(137)", level).exit_code == 137


@pytest.mark.parametrize("level", list(Level))
def test_a_program_that_is_not_there_is_the_callers_fault(level: sandbox.Level) -> None:
    with pytest.raises(sandbox.SandboxError, match="no-such-program"):
        sandbox.run(["/no-such-program"], level=level)


@pytest.mark.parametrize("level", CONFINED)
def test_readable_folders_are_seen_and_read_only_even_below_a_closed_home(level: sandbox.Level, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "tools").mkdir(parents=True)
    (home / "tools/data").write_text("seen")
    (home / "secret").write_text("x")
    home.chmod(0o700)
    look = f"print(open('{home}/tools/data').read())\nfor path, mode in (('{home}/tools/data', 'a'), ('{home}/secret', 'r')):\n"
    look += "    try: open(path, mode); print('open')\n    except OSError: print('closed')\n"
    assert run(look, level, readable=[home / "tools"]).stdout.split() == [b"seen", b"closed", b"closed"]
    assert run(f"open('{home}/tools/data')", level).exit_code == 1


# -- limits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", list(Level))
def test_the_clock_ends_a_program_and_all_it_started(level: sandbox.Level) -> None:
    mark = f"flywheel-clock-{os.getpid()}-{level}"
    code = f"import os, time\nif os.fork() == 0:\n    os.execv('{PYTHON[0]}', ['{PYTHON[0]}', '-c', 'import time; time.sleep(600)', '{mark}'])\n"
    finished = run(code + "time.sleep(600)", level, limits=Limits(wall_seconds=1.0))
    assert finished.timed_out and finished.exit_code is None
    assert gone(mark)


@pytest.mark.parametrize("level", list(Level))
def test_a_daemon_neither_holds_the_run_up_nor_survives_it(level: sandbox.Level) -> None:
    mark = f"flywheel-daemon-{os.getpid()}-{level}"
    code = f"""
import os, sys
if os.fork() == 0:
    try: os.setsid()
    except OSError: pass
    if os.fork() == 0:
        os.execv('{PYTHON[0]}', ['{PYTHON[0]}', '-c', 'import time; time.sleep(600)', '{mark}'])
    os._exit(0)
os.wait()
print('done')
"""
    finished = run(code, level)
    assert finished.stdout == b"done\n" and not finished.timed_out
    assert gone(mark)


@pytest.mark.parametrize("level", list(Level))
def test_processes_are_counted_for_root_too(level: sandbox.Level) -> None:
    code = "import os, time\nn = 0\ntry:\n    while n < 500:\n        if os.fork() == 0: time.sleep(60)\n        n += 1\nexcept OSError: pass\nprint(n)"
    started = int(run(code, level, limits=Limits(processes=40)).stdout)
    assert 1 <= started <= 60


@pytest.mark.parametrize("level", CONFINED)
def test_one_process_means_no_fork_while_threads_stay_possible(level: sandbox.Level) -> None:
    code = "import os, threading\nt = threading.Thread(target=print, args=('thread',)); t.start(); t.join()\nos.fork()"
    finished = run(code, level, limits=Limits(processes=1))
    assert finished.stdout == b"thread\n" and b"PermissionError" in finished.stderr


@pytest.mark.parametrize("level", list(Level))
def test_memory_processor_files_and_descriptors_are_bounded(level: sandbox.Level) -> None:
    limits = Limits(memory_bytes=256 << 20, cpu_seconds=1, file_bytes=1 << 20, descriptors=20, wall_seconds=20.0)
    code = """
def fails(call):
    try: call()
    except (MemoryError, OSError) as error: return type(error).__name__
def descriptors():
    kept = [open('/dev/null') for _ in range(30)]
print(fails(lambda: bytearray(1 << 30)), fails(lambda: open('big', 'wb').write(bytes(2 << 20))), fails(descriptors), flush=True)
while True: pass
"""
    finished = run(code, level, limits=limits)
    assert finished.stdout.split() == [b"MemoryError", b"OSError", b"OSError"]
    assert finished.signal == signal.SIGKILL and not finished.timed_out


@pytest.mark.parametrize("level", list(Level))
def test_output_beyond_the_bound_is_thrown_away(level: sandbox.Level) -> None:
    code = "import os\nfor _ in range(300):\n    os.write(1, b'x' * (1 << 20))\n    os.write(2, b'x' * 10)"
    finished = run(code, level, limits=Limits(wall_seconds=30.0))
    assert len(finished.stdout) == 1 << 20 and finished.truncated and finished.exit_code == 0


@pytest.mark.parametrize("level", list(Level))
def test_the_scratch_directory_has_a_size(level: sandbox.Level) -> None:
    code = (
        "import time\nfor i in range(40):\n    open(f'f{i}', 'wb').write(bytes(1 << 20))\ntime.sleep(5)\nprint('all')"
    )
    finished = run(code, level, limits=Limits(scratch_bytes=8 << 20, wall_seconds=30.0))
    assert finished.stdout == b""
    assert b"No space left" in finished.stderr if level is Level.NAMESPACES else finished.timed_out


def test_a_tree_of_a_thousand_levels_is_removed() -> None:
    before = set(Path(tempfile.gettempdir()).glob("flywheel-sandbox-*"))
    run("import os\nfor _ in range(1500):\n    os.mkdir('d')\n    os.chdir('d')", Level.LANDLOCK)
    assert set(Path(tempfile.gettempdir()).glob("flywheel-sandbox-*")) == before


# -- walls --------------------------------------------------------------------------------------------

WALLS = {
    "udp": "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "tcp": "import socket; socket.socket()",
    "abstract unix sockets": "import socket; socket.socket(socket.AF_UNIX).bind('\\0x')",
    "a pair that is not unix": "import socket; socket.socketpair(socket.AF_INET)",
    "user namespaces": "assert libc.unshare(0x10000000) == 0",
    "user namespaces by clone": f"assert libc.syscall({seccomp.NUMBERS['clone'][platform.machine() != 'x86_64']}, 0x10000011, 0, 0, 0, 0) >= 0",
    "clone3": "import ctypes as c; assert libc.syscall(435, (c.c_uint64 * 11)(0, 0, 0, 0, 17), 88) >= 0",
    "io_uring": "assert libc.syscall(425, 8, bytes(200)) >= 0",
    "ptrace": "import os; assert libc.ptrace(16, os.getppid(), 0, 0) == 0",
    "another's memory": "import os; open(f'/proc/{os.getppid()}/mem', 'rb')",
    "the machine's files": "open('/etc/passwd')",
    "shared memory": "assert libc.shmget(7, 4096, 0o1777) >= 0",
    "files in memory": "import os; os.memfd_create('x')",
    "writing at the root": "open('/x', 'w')",
    "writing to /dev/shm": "open('/dev/shm/x', 'w')",
    "writing to the interpreter's folder": "import sys; open(sys.prefix + '/x', 'w')",
    "mounting": "assert libc.mount(b'x', b'/tmp', b'tmpfs', 0, None) == 0",
    "becoming root": "import os; os.setuid(0)",
    "signals to the caller": f"import os; os.kill({os.getpid()}, 0)",
    "calls newer than the filter": "assert libc.syscall(468, 0, 0, 0, 0, 0) >= 0 or ctypes.get_errno() != 38",
    "raising a limit": "import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "keys of the kernel": "assert libc.syscall(%d, b'user', b'x', b'y', 1, -2) >= 0" % seccomp.NUMBERS["add_key"][platform.machine() != "x86_64"],
}  # fmt: skip


@pytest.mark.parametrize("level", CONFINED)
def test_walls(level: sandbox.Level) -> None:
    code = (
        """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
import os
me = os.getpid()
for name, wall in %r.items():
    try: exec(wall, {"libc": libc, "ctypes": ctypes})
    except (OSError, AssertionError, ValueError): continue
    if os.getpid() != me: os._exit(0)
    print(name)
print("end")
"""
        % WALLS
    )
    finished = run(code, level)
    assert finished.stdout == b"end\n", finished


def test_the_launchers_environment_is_not_in_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_SECRET", "sesame")
    code = "import glob\nprint([open(p).read() for p in glob.glob('/proc/[0-9]*/environ')], __import__('os').environ)"
    finished = run(code, Level.NAMESPACES)
    assert finished.exit_code == 0 or b"Permission" in finished.stderr
    assert (
        b"sesame" not in finished.stdout and b"'PATH'" in run("import os; print(os.environ)", Level.NAMESPACES).stdout
    )


@pytest.mark.parametrize("level", CONFINED)
def test_installed_packages_are_out_of_sight(level: sandbox.Level) -> None:
    code = "import os, sys\n" + "".join(
        f"print(os.path.exists({h!r}) and [open(os.path.join(r, f)) for r, _, n in os.walk({h!r}) for f in n])\n"
        for h in bwrap.hidden()
    )
    finished = run(code, level)
    assert finished.exit_code == 0 or b"PermissionError" in finished.stderr, finished
    assert b"TextIOWrapper" not in finished.stdout


@pytest.mark.parametrize("level", CONFINED)
def test_another_architectures_calls_are_deadly(level: sandbox.Level) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("int 0x80 is of x86")
    code = """
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=7)
page.write(b"\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3")  # mov eax, 20 (i386: getpid); int 0x80; ret
ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
print('through')
"""
    finished = run(code, level)
    assert finished.stdout == b"" and finished.signal == signal.SIGSYS


# -- nothing outlives its caller ----------------------------------------------------------------------

CALLER = """
import sys, time
from flywheel.verifiers import sandbox
from flywheel.verifiers.sandbox import bwrap
level, mark = sandbox.Level(sys.argv[1]), sys.argv[2]
inner = f"import time; time.sleep(600)"
code = f'''
import os, time
if os.fork() == 0:
    try: os.setsid()
    except OSError: pass
    os.execv({bwrap.interpreter()!r}, [{bwrap.interpreter()!r}, "-c", "import time; time.sleep(600)", {mark!r}])
time.sleep(600)
'''
sandbox.run([bwrap.interpreter(), "-I", "-S", "-c", code, mark], level=level, limits=sandbox.Limits(wall_seconds=600.0))
"""


@pytest.mark.parametrize("level", list(Level))
def test_a_killed_caller_takes_all_with_it_even_other_sessions(level: sandbox.Level) -> None:
    mark = f"mark-orphan-{os.getpid()}-{level}"
    before = set(Path(tempfile.gettempdir()).glob("flywheel-sandbox-*"))
    caller = subprocess.Popen([sys.executable, "-c", CALLER, level, mark])
    deadline = time.monotonic() + 30
    while len(processes_with(mark)) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(processes_with(mark)) >= 3  # the caller, the program, and its child in a session of its own
    caller.kill()
    caller.wait()
    assert gone(mark)
    deadline = time.monotonic() + 10
    while set(Path(tempfile.gettempdir()).glob("flywheel-sandbox-*")) - before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert set(Path(tempfile.gettempdir()).glob("flywheel-sandbox-*")) == before
