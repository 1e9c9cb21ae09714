"""README.md says only what is so: commands parse, recipes validate, its verifier judges, links lead somewhere."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from flywheel.cli import _parser
from flywheel.judgements import to_judgement
from flywheel.plugins import make_verifier
from flywheel.recipe import apply_overrides, load_recipe, shipped_recipes, validate
from flywheel.types import Outcome, Problem

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PLACES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [place.read_text(encoding="utf-8") for place in PLACES]


def blocks(language: str, text: str = README) -> list[str]:
    """The fenced blocks of a language; "" finds those of commands."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[str]:
    """The commands of a page, from fenced blocks and from indented lines, continued lines joined, `&&` taken apart."""
    lines = "\n".join([*blocks("", page), *re.findall(r"^ {4}((?:flywheel|python) .*)$", page, re.MULTILINE)])
    joined = lines.replace("\\\n", " ").splitlines()
    return [part.strip() for line in joined for part in line.partition("  #")[0].split("&&")]


COMMANDS = [command for page in PAGES for command in commands(page)]
OURS = sorted({c for c in COMMANDS if re.match(r"(\.venv/bin/)?flywheel ", c)})
BENCHMARKS = sorted({c for c in COMMANDS if c.startswith("python benchmarks/")})


@pytest.mark.parametrize("command", OURS)
def test_commands_are_those_of_the_command_line(command: str) -> None:
    arguments = _parser().parse_args(shlex.split(command)[1:])
    assert callable(arguments.command)


@pytest.mark.parametrize("command", OURS)
def test_recipes_that_are_run_exist_and_take_the_settings(command: str) -> None:
    given = _parser().parse_args(shlex.split(command)[1:])
    if getattr(given, "recipe", None) in shipped_recipes():
        load_recipe(given.recipe, given.overrides)
    else:
        for setting in getattr(given, "overrides", []):
            if "…" not in setting:
                apply_overrides(load_recipe("demo").model_dump(mode="json"), [setting])


@pytest.mark.parametrize("command", BENCHMARKS)
def test_benchmarks_exist_and_take_the_options(command: str) -> None:
    _, script, *words = shlex.split(command)
    code = (ROOT / script).read_text(encoding="utf-8")
    for option in (word for word in words if word.startswith("--")):
        assert f'add_argument("{option}"' in code, f"{script} has no option {option}"


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = {word for page in PAGES for word in re.findall(r"^make ([a-z]+)", page, re.MULTILINE)}
    assert {"demo", "test", "install"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_recipes_validate() -> None:
    found = blocks("toml")
    assert len(found) >= 4
    for block in found:
        validate(tomllib.loads(block))


def test_the_verifier_judges(tmp_path: Path) -> None:
    [code] = blocks("python")
    path = tmp_path / "my_verifier.py"
    path.write_text(code)
    [settings] = [tomllib.loads(b)["verify"] for b in blocks("toml") if "my_verifier" in b]
    name = settings["verifier"].replace("my_verifier.py", str(path))
    strict, kind = make_verifier(name, settings["options"]), make_verifier(name, {})
    problem = Problem("p", "Say Yes", "Yes")
    said = [to_judgement(verifier.verify(problem, "oh yes ")) for verifier in (strict, kind)]
    assert [judgement.outcome for judgement in said] == [Outcome.WRONG, Outcome.CORRECT]


def test_links_lead_somewhere() -> None:
    headings = {
        place: {anchor(h) for h in re.findall(r"^#+ (.*)$", place.read_text(), re.MULTILINE)} for place in PLACES
    }
    for place, page in zip(PLACES, PAGES, strict=True):
        for target, at in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page):
            if target.startswith("https://"):
                continue
            there = (place.parent / target).resolve() if target else place
            assert there.exists(), f"{place.name}: {target}"
            assert not at or at in headings[there], f"{place.name}: {target}#{at}"


def anchor(heading: str) -> str:
    """What a heading is called in a link, by GitHub's rule: lower case, hyphens for spaces, no other punctuation."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
