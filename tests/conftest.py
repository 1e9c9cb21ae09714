"""What every test stands on: nothing of the user's Prefect, no network, no caches in the user's home."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

# Set while this file is imported, because Prefect, Hugging Face and vLLM read their settings when they are imported.
SCRATCH = Path(tempfile.mkdtemp(prefix="flywheel-tests-"))

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


def pytest_unconfigure() -> None:
    """Leave nothing behind."""
    shutil.rmtree(SCRATCH, ignore_errors=True)
