"""What every test stands on: nothing of the user's Prefect, no network, no caches in the user's home.

`make test` shares the tests out to two processes. Each imports this file and so has a scratch folder of its own,
temporary files included: what a test looks for after itself is never its neighbour's.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# How fast examples come says something about the machine, not about the code.
settings.register_profile("flywheel", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("flywheel")

# Where pytest keeps its own folders, and the scratch folders below: not within the scratch folder of the process that
# started this one, because sockets' paths must be short.
ROOM = os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())

# Set while this file is imported, because Prefect, Hugging Face and vLLM read their settings when they are imported.
SCRATCH = Path(tempfile.mkdtemp(prefix="flywheel-tests-", dir=ROOM))
atexit.register(shutil.rmtree, SCRATCH, ignore_errors=True)  # Prefect's own clean-up, registered later, comes before
SCRATCH.chmod(0o755)  # the sandbox is tested as another user as well
(SCRATCH / "tmp").mkdir()
(SCRATCH / "tmp").chmod(0o1777)
tempfile.tempdir = os.environ["TMPDIR"] = str(SCRATCH / "tmp")

# Tests that share something costly for a whole session (a Prefect server, vLLM's import) and so belong in one process,
# longest group first; every other file is a group of its own.
GROUPS = {
    "flows/test_real_server.py": "a server and a worker",
    "policy/test_host.py": "vLLM",
    "policy/test_categorical.py": "vLLM",
    "policy/test_vllm.py": "vLLM",
    "flows/test_expert_iteration.py": "Prefect",
    "flows/test_local.py": "Prefect",
    "flows/test_math_in_tasks.py": "Prefect",
    "flows/test_submit.py": "Prefect",
}
# What takes long comes before what is short, so that both processes end at about the same time.
FIRST = [
    *GROUPS,
    "flows/test_local_processes.py",
    "test_kill.py",
    "training/test_train.py",
    "verifiers/test_unit_tests_hacks.py",
    "verifiers/test_unit_tests_published.py",
    "verifiers/test_unit_tests.py",
]

for name in [name for name in os.environ if name.startswith("PREFECT_")]:
    del os.environ[name]  # a server or profile of the user's must not see test runs

# The one cache that stays: converting the embedded model costs a quarter of a minute, and its content never changes.
os.environ.setdefault("FLYWHEEL_CACHE", str(Path.home() / ".cache" / "flywheel"))

os.environ |= {
    # A home alone does not move results and the memo store (PrefectHQ/prefect#23046).
    "PREFECT_HOME": str(SCRATCH / "prefect"),
    "PREFECT_RESULTS_LOCAL_STORAGE_PATH": str(SCRATCH / "prefect" / "storage"),
    "PREFECT_MEMO_STORE_PATH": str(SCRATCH / "prefect" / "memo_store.toml"),
    "PREFECT_PROFILES_PATH": str(SCRATCH / "prefect" / "profiles.toml"),
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "flywheel",
    "DO_NOT_TRACK": "1",
    "HF_HOME": str(SCRATCH / "huggingface"),
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MPLCONFIGDIR": str(SCRATCH / "matplotlib"),
    "TOKENIZERS_PARALLELISM": "false",
    "TORCHINDUCTOR_CACHE_DIR": str(SCRATCH / "inductor"),
    "TRITON_CACHE_DIR": str(SCRATCH / "triton"),
    "VLLM_CACHE_ROOT": str(SCRATCH / "vllm"),
    "VLLM_CONFIG_ROOT": str(SCRATCH / "vllm"),
    "VLLM_NO_USAGE_STATS": "1",
    # A terminal's width and colours must not decide what a test sees.
    "COLUMNS": "100",
}
for name in ("FORCE_COLOR", "NO_COLOR"):
    os.environ.pop(name, None)

if "PYTEST_XDIST_WORKER" in os.environ:
    # Two processes with a thread for each core, both waiting busily for their threads, are slower than one.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put first what takes longest, where the tests are shared out."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: FIRST.index(f) if (f := _file(item.nodeid)) in FIRST else len(FIRST))


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0].removeprefix("tests/")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share out whole groups. xdist's own `--dist loadgroup` does nothing under pytest 9.2 (it sets a private name)."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return GROUPS.get(file := _file(nodeid), file)

    config.option.loadscopereorder = False  # by number of tests; ours are in order
    return Groups(config, log)
