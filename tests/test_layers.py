"""docs/architecture.md's list of layers, held to: a module imports only from its own layer's files above it."""

from __future__ import annotations

import ast
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

import flywheel

ROOT = Path(__file__).resolve().parents[1]

# From the ground up. A module may import modules of earlier lines, and of its own line.
LAYERS: list[list[str]] = [
    ["types", "errors", "fingerprint", "figures", "progress", "guard_process", "guard", "prefect_env", "provenance"],
    ["sums", "recipe", "scaffold"],
    ["prompts"],
    [
        "near_copies",
        "problem_sources",
        "prompt_files",
        "problems",
        "store",
        "manifest",
        "lock",
        "foreign",
        "protocols",
        "plugins",
        "identity",
        "judgements",
        "judgeable",
    ],
    ["demands"],
    ["policy", "training", "models", "samplers"],
    ["judging", "verify_worker", "verify_forker", "verify_link", "verify_jobs", "verify"],
    ["observe", "check_inputs", "check_bench", "check", "trl_reward", "verify_places", "verify_rows", "verify_file"],
    [
        "programs",
        "diversity",
        "arithmetic",
        "agreement",
        "measures",
        "spread",
        "guided",
        "standing",
        "intervals",
        "stopping",
    ],
    ["arms"],
    ["adjust"],
    [
        "writing",
        "propose",
        "plan_types",
        "plan",
        "waves",
        "sweep",
        "sample",
        "filter",
        "pairs",
        "lessons",
        "mix",
        "evaluate",
    ],
    ["gate", "repair"],
    ["scope", "view"],
    ["warm"],
    ["run"],
    ["train", "fit", "collect", "online", "online_trainer", "retention", "card"],
    ["stages"],
    ["loop", "lineage"],
    ["share"],
    ["controls"],
    ["report"],
    ["console", "doctor"],
    ["devices", "model_shape", "forecast"],
    ["arguments", "interrupts"],
    ["verifier_scaffold", "verifier_commands", "control_commands", "run_commands", "forecast_commands"],
    ["flows"],
    ["cli", "__main__"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def modules() -> dict[str, Path]:
    """Every module's dotted name below `flywheel`, as installed: `verifiers.math`, `flows.local`, `policy.toy`."""
    found = {}
    for folder, prefix in (("flywheel", ""), ("verifiers", "verifiers."), ("flows", "flows.")):
        for path in sorted((ROOT / folder).rglob("*.py")):
            dotted = ".".join(path.relative_to(ROOT / folder).with_suffix("").parts)
            found[(prefix + dotted).removesuffix(".__init__").removesuffix("__init__").rstrip(".")] = path
    return found


MODULES = modules()
PATHS = {name or "flywheel": path for name, path in MODULES.items()}


def imported(path: Path) -> set[str]:
    """The absolute names that a file imports when it runs, at the top or lazily inside functions."""
    names: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"), str(path))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write it in full"
            names.add(str(node.module))
            if node.module == "flywheel" or f"{node.module}.".startswith("flywheel."):
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def layer(dotted: str) -> str:
    """The name in LAYERS that `flywheel.x.y` belongs to."""
    return dotted.removeprefix("flywheel.").split(".")[0]


# The package's own face and the plug-ins have rules of their own, below.
LAYERED = sorted(name for name in PATHS if name != "flywheel" and not name.startswith("verifiers"))


@pytest.mark.parametrize("name", LAYERED)
def test_a_module_imports_only_from_above_it(name: str) -> None:
    own = layer(name)
    assert own in RANK, f"{PATHS[name].relative_to(ROOT)} stands in no layer: give it a line in LAYERS and in the docs"
    for target in sorted(imported(PATHS[name])):
        if target.startswith("flywheel.") and layer(target) in RANK:
            assert RANK[layer(target)] <= RANK[own], f"{name} imports {target}, which stands below it"


def test_the_page_on_architecture_names_every_layered_module() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    listed = page.partition("## Layers")[2].split("```")[1]
    words = {word for line in listed.splitlines() for word in line.partition("   ")[0].replace("/", "").split()}
    missing = [name for name in RANK if not any(fnmatch(name, word) for word in words)]
    assert missing == []


def test_only_flows_import_prefect() -> None:
    guilty = {name for name, path in PATHS.items() if any(top(t) == "prefect" for t in imported(path))}
    assert {name for name in guilty if name.split(".")[0] != "flows"} == set()
    assert guilty, "flows/ should import prefect; has this test lost sight of it?"


def test_flywheel_never_imports_its_verifiers_by_name() -> None:
    for name, path in PATHS.items():
        if name.split(".")[0] != "verifiers":
            assert not [t for t in imported(path) if t.startswith(("flywheel.verifiers", "verifiers"))], name


def test_verifiers_import_only_what_the_package_exports() -> None:
    """What a stranger's plug-in may rely on is `flywheel.__all__`; ours live by the same rule."""
    for name, path in PATHS.items():
        if name.split(".")[0] != "verifiers":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and top(str(node.module)) == "flywheel":
                if not str(node.module).startswith("flywheel.verifiers"):
                    hidden = {alias.name for alias in node.names} - set(flywheel.__all__) - {"verifiers"}
                    assert not hidden, f"{name} imports {sorted(hidden)}, which flywheel does not export"
            elif isinstance(node, ast.Import):
                assert not [alias for alias in node.names if top(alias.name) == "flywheel"], name


def test_every_exported_name_is_there() -> None:
    for name in flywheel.__all__:
        assert getattr(flywheel, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = flywheel.nothing


def top(dotted: str) -> str:
    return dotted.split(".")[0]


HEAVY = ["torch", "vllm", "sympy", "prefect", "transformers", "trl", "datasets"]


@pytest.mark.parametrize("module", ["flywheel", "flywheel.recipe", "flywheel.cli", "flywheel.loop", "flywheel.report"])
def test_importing_flywheel_is_light(module: str) -> None:
    code = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.stdout.strip(), result.returncode) == ("[]", 0), result.stderr
