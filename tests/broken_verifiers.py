"""Verifiers with one fault each, for `flywheel check` to find."""

from __future__ import annotations

BROKEN = """
import os, random, socket, subprocess, tempfile, threading
from dataclasses import dataclass
from pathlib import Path
from flywheel import Problem

class Sound:
    def verify(self, problem, completion):
        return completion.strip() == problem.answer if completion.strip() else None

class Strict(Sound):
    def verify(self, problem, completion):
        return completion == f"[[{problem.answer}]]"

class Told(Strict):
    def example(self, problem):
        return f"[[{problem.answer}]]"
    @classmethod
    def problems(cls):
        return [Problem(id=str(i), prompt="?", answer=str(i)) for i in range(4)]

class Lenient(Sound):
    def verify(self, problem, completion):
        return completion.strip().isdigit()

class TakesJunk(Sound):
    def verify(self, problem, completion):
        return super().verify(problem, completion) or "\\x00" in completion

class Raises(Sound):
    def verify(self, problem, completion):
        completion.encode()
        return super().verify(problem, completion)

class Moody(Sound):
    calls = 0
    def verify(self, problem, completion):
        Moody.calls += 1
        return {"score": float(super().verify(problem, completion) or False), "answer": str(Moody.calls)}

class Writes(Sound):
    def verify(self, problem, completion):
        Path(tempfile.gettempdir(), "note").write_text("x")
        return super().verify(problem, completion)

class WritesAtImport(Sound):
    def __init__(self):
        open(os.path.expanduser("~/note"), "a").close()

class Removes(Sound):
    def verify(self, problem, completion):
        try: os.remove("/nowhere/at/all")
        except OSError: pass
        return super().verify(problem, completion)

class Connects(Sound):
    def verify(self, problem, completion):
        with socket.socket() as s:
            s.settimeout(0.2)
            try: s.connect(("127.0.0.1", 9))
            except OSError: pass
        return super().verify(problem, completion)

class LooksUp(Sound):
    def verify(self, problem, completion):
        socket.getaddrinfo("127.0.0.1", 80)  # a name would take a while where there is no server to ask
        return super().verify(problem, completion)

class InAThread(Sound):
    def verify(self, problem, completion):
        thread = threading.Thread(target=lambda: open("/nowhere/x", "w"))
        threading.excepthook = lambda *_: None
        thread.start(); thread.join()
        return super().verify(problem, completion)

class Starts(Sound):
    def verify(self, problem, completion):
        subprocess.run(["true"])
        return super().verify(problem, completion)

class LeavesByProcess(Sound):
    isolation = "landlock"
    def verify(self, problem, completion):
        subprocess.run(["touch", os.path.join(tempfile.gettempdir(), "left")])
        return super().verify(problem, completion)

class OwnSandbox(Sound):
    isolation = "landlock"
    def verify(self, problem, completion):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["touch", os.path.join(folder, "gone")])
        return super().verify(problem, completion)

class Judge:
    label_free = True
    uses_network = True
    def verify(self, problem, completion):
        return 0.5

class Async(Sound):
    async def verify(self, problem, completion):
        return completion.strip() == problem.answer if completion.strip() else None

class Batch(Sound):
    def verify_batch(self, problems, completions):
        return [Sound.verify(self, p, c) for p, c in zip(problems, completions)]

class AsyncWrites(Sound):
    async def verify(self, problem, completion):
        Path(tempfile.gettempdir(), "note").write_text("x")
        return completion.strip() == problem.answer

class Sleeps(Sound):
    def verify(self, problem, completion):
        __import__("time").sleep(600)

class SleepsAtJunk(Sound):
    def verify(self, problem, completion):
        if len(completion) > 100: __import__("time").sleep(600)
        return super().verify(problem, completion)

class SlowModel(SleepsAtJunk):
    deadline_outcome = "error"

class Unsure:
    label_free = unsure_is_error = True
    def verify(self, problem, completion):
        if len(completion) > 100: return {"outcome": "error", "detail": "cannot say"}
        return 0.5 if completion.strip() else None

class AlwaysUnsure:
    label_free = unsure_is_error = True
    calls = 0
    def verify(self, problem, completion):
        return {"outcome": "error", "detail": "cannot say"}

class UnsureAndRaises(Unsure):
    def verify(self, problem, completion):
        completion.encode()
        return super().verify(problem, completion)

class UnsureAndExits(Unsure):
    def verify(self, problem, completion):
        if "\\ud800" in completion: os._exit(3)
        return super().verify(problem, completion)

class Vote:
    label_free = True
    def verify(self, problem, completion):
        return 1.0
    def verify_group(self, problem, completions):
        return [completions.count(c) / len(completions) for c in completions]
"""
