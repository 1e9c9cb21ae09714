"""What must be set before Prefect is imported, so that a flow runs quietly, offline and beside its own files.

Prefect reads its settings when it is imported, so this module knows it only by its environment variables.
What you have set yourself is never touched; with an API URL of yours in the environment, in `.env`, in
`prefect.toml`, in `pyproject.toml` or in your Prefect profile, flows go to that server and nothing here applies
but the quiet settings.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from flywheel.errors import UserError

API_URL = "PREFECT_API_URL"

# (distribution, lowest, below, what goes wrong outside, what to install)
_VERSIONS = (
    ("prefect", (3, 7, 7), (3, 8), "is not the one flywheel was tried with", "prefect>=3.7.7,<3.8"),
    ("sqlalchemy", (2, 0), (2, 1), "lets no Prefect schedule fire", "sqlalchemy[asyncio]>=2.0,<2.1"),
    ("fastapi", (0, 133), (0, 155), "cannot import Prefect's server", "fastapi<0.137"),
)


def check_versions() -> None:
    """Refuse the versions around Prefect that fail late or in silence, naming the cure.

    Raises UserError where Prefect, SQLAlchemy or FastAPI is missing or outside the range that works.
    """
    for name, lowest, below, harm, cure in _VERSIONS:
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            raise UserError(f"{name} is not installed: pip install '{cure}', or run with --no-prefect") from None
        if not lowest <= _numbers(found) < below:
            raise UserError(f"{name} {found} {harm}: pip install '{cure}', or run with --no-prefect")


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: `3.7.7.post1` is (3, 7, 7)."""
    numbers: list[int] = []
    for part in version.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def prefect_home(workspace: Path) -> Path:
    """Where a workspace (the folder that holds runs) keeps Prefect's database, logs and results."""
    return workspace.absolute() / ".prefect"


def prefect_environment(workspace: Path, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables to set before Prefect is imported; those that `environ` already has are left out.

    With an API URL of the user's own only the quiet settings remain: home and profile stay theirs.
    """
    given = os.environ if environ is None else environ
    chosen = configured_api_url(environ)
    wanted = {
        "DO_NOT_TRACK": "1",
        "PREFECT_CLI_PROMPT": "false",
        # Our own lines show beside Prefect's in its UI; those of threads outside a run are no reason to warn.
        "PREFECT_LOGGING_EXTRA_LOGGERS": "flywheel",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        # The terminal belongs to flywheel's own bars and table; Prefect's lines go to its database.
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    }
    if chosen is None:
        home = prefect_home(workspace)
        wanted |= {
            "PREFECT_HOME": str(home),
            # The home alone does not move results and the memo store (PrefectHQ/prefect#23046).
            "PREFECT_RESULTS_LOCAL_STORAGE_PATH": str(home / "storage"),
            "PREFECT_MEMO_STORE_PATH": str(home / "memo_store.toml"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        }
    return {name: value for name, value in wanted.items() if name not in given}


def apply(workspace: Path) -> dict[str, str]:
    """Set `prefect_environment(workspace)` in this process; returns what was set."""
    added = prefect_environment(workspace)
    os.environ.update(added)
    return added


def configured_api_url(environ: Mapping[str, str] | None = None, directory: Path | None = None) -> str | None:
    """The Prefect server you have chosen yourself, or None.

    Where Prefect is imported already, that is its current setting. Else this looks where Prefect looks, in its
    order: environment, `.env`, `prefect.toml`, `pyproject.toml` (these three in `directory`), the active profile.
    """
    if environ is None and (imported := sys.modules.get("prefect.settings")):
        return imported.get_current_settings().api.url
    given = os.environ if environ is None else environ
    folder = Path.cwd() if directory is None else directory
    home = Path(given.get("PREFECT_HOME") or Path.home() / ".prefect")
    return (
        given.get(API_URL)
        or _dotenv(folder / ".env")
        or _table(folder / "prefect.toml", "api", "url")
        or _table(folder / "pyproject.toml", "tool", "prefect", "api", "url")
        or _profile_url(Path(given.get("PREFECT_PROFILES_PATH") or home / "profiles.toml"), given)
    )


def _dotenv(path: Path) -> str | None:
    if not path.is_file():
        return None
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and name.strip() == API_URL:
            return value.strip().strip("'\"") or None
    return None


def _table(path: Path, *keys: str) -> str | None:
    """The text at a dotted place of a TOML file; None where file or place is missing."""
    if not path.is_file():
        return None
    try:
        value: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return None  # Prefect itself says what is wrong with its file
    for key in keys:
        value = value[key] if isinstance(value, dict) and key in value else None
    return value if isinstance(value, str) else None


def _profile_url(profiles: Path, environ: Mapping[str, str]) -> str | None:
    active = environ.get("PREFECT_PROFILE") or _table(profiles, "active")
    return _table(profiles, "profiles", active, API_URL) if active else None
