"""What is set before Prefect is imported, and whose server flows go to."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from flywheel import prefect_env
from flywheel.errors import UserError
from flywheel.prefect_env import check_versions, configured_api_url, prefect_environment

URL = "http://prefect.example:4200/api"


@pytest.fixture
def nothing_set(tmp_path, monkeypatch):
    """An environment and a working directory that name no server."""
    monkeypatch.chdir(tmp_path)
    return {"PREFECT_HOME": str(tmp_path / "home")}


def test_a_workspace_has_its_own_home_and_results(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    found = prefect_environment(tmp_path / "runs", {})
    home = tmp_path / "runs" / ".prefect"
    assert found["PREFECT_HOME"] == str(home)
    assert found["PREFECT_RESULTS_LOCAL_STORAGE_PATH"] == str(home / "storage")
    assert found["PREFECT_MEMO_STORE_PATH"] == str(home / "memo_store.toml")
    assert found["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert found["PREFECT_LOGGING_EXTRA_LOGGERS"] == "flywheel"


def test_what_the_user_set_stays(nothing_set):
    given = {**nothing_set, "PREFECT_LOGGING_EXTRA_LOGGERS": "mine", "DO_NOT_TRACK": "0"}
    found = prefect_environment(Path("runs"), given)
    assert not found.keys() & given.keys()


def test_with_a_server_of_the_users_own_home_and_profile_stay_theirs(nothing_set):
    found = prefect_environment(Path("runs"), {"PREFECT_API_URL": URL})
    assert "PREFECT_HOME" not in found
    assert "PREFECT_SERVER_ANALYTICS_ENABLED" not in found
    assert found["PREFECT_LOGGING_EXTRA_LOGGERS"] == "flywheel"


def test_no_server_is_configured(nothing_set):
    assert configured_api_url(nothing_set) is None


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (".env", f"OTHER=1\nexport PREFECT_API_URL='{URL}'\n"),
        ("prefect.toml", f'[api]\nurl = "{URL}"\n'),
        ("pyproject.toml", f'[tool.prefect.api]\nurl = "{URL}"\n'),
        ("home/profiles.toml", f'active = "team"\n[profiles.team]\nPREFECT_API_URL = "{URL}"\n'),
    ],
)
def test_a_server_is_found_where_prefect_looks(nothing_set, tmp_path, file, text):
    (tmp_path / "home").mkdir()
    (tmp_path / file).write_text(text)
    assert configured_api_url(nothing_set, tmp_path) == URL


def test_an_inactive_profile_names_no_server(nothing_set, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "profiles.toml").write_text(
        f'active = "local"\n[profiles.local]\n[profiles.team]\nPREFECT_API_URL = "{URL}"\n'
    )
    assert configured_api_url(nothing_set, tmp_path) is None
    assert configured_api_url({**nothing_set, "PREFECT_PROFILE": "team"}, tmp_path) == URL


def test_prefect_reads_the_same_places(nothing_set, tmp_path):
    """Prefect's own answer for the profile form, so that a change of its search shows here."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "profiles.toml").write_text(f'active = "team"\n[profiles.team]\nPREFECT_API_URL = "{URL}"\n')
    environ = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")} | nothing_set
    code = "from prefect.settings import get_current_settings as s; print(s().api.url)"
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == URL == configured_api_url(nothing_set, tmp_path)


def test_the_installed_versions_fit():
    check_versions()


@pytest.mark.parametrize(
    ("name", "version", "cure"),
    [
        ("sqlalchemy", "2.1.9", "sqlalchemy[asyncio]>=2.0,<2.1"),
        ("prefect", "3.8.8", "prefect>=3.7.7,<3.8"),
        ("fastapi", "0.165.0", "fastapi<0.137"),
    ],
)
def test_a_version_that_fails_in_silence_is_refused_with_its_cure(monkeypatch, name, version, cure):
    real = metadata.version
    monkeypatch.setattr(prefect_env.metadata, "version", lambda n: version if n == name else real(n))
    with pytest.raises(UserError, match=r"pip install") as caught:
        check_versions()
    assert f"{name} {version}" in str(caught.value)
    assert cure in str(caught.value)
    assert "--no-prefect" in str(caught.value)


def test_a_missing_prefect_is_one_line(monkeypatch):
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(prefect_env.metadata, "version", missing)
    with pytest.raises(UserError, match="prefect is not installed"):
        check_versions()
