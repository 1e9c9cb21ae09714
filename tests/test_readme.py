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
from flywheel.recipe import shipped_recipes, validate
from flywheel.types import Outcome, Problem

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [README, *(p.read_text(encoding="utf-8") for p in sorted((ROOT / "docs").glob("*.md")))]


def blocks(language: str, text: str = README) -> list[str]:
    """The fenced blocks of a language; "" finds those of commands."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


COMMANDS = [line.partition("  #")[0] for page in PAGES for block in blocks("", page) for line in block.splitlines()]


@pytest.mark.parametrize("command", [c for c in COMMANDS if re.match(r"(\.venv/bin/)?flywheel ", c)])
def test_commands_are_those_of_the_command_line(command: str) -> None:
    arguments = _parser().parse_args(shlex.split(command)[1:])
    assert callable(arguments.command)


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
    for page in sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name}: {target}"


def test_named_recipes_and_settings_exist() -> None:
    for name in re.findall(r"flywheel (?:run|show|submit) ([a-z]+)\b(?![./_])", "\n".join(COMMANDS)):
        assert name in {*shipped_recipes(), "recipe", "runs"}, name
    for setting in re.findall(r"--set ([\w.]+=[\w./-]+)", "\n".join(COMMANDS)):
        place, _, value = setting.partition("=")
        nested: object = tomllib.loads(f"v = {value}")["v"] if re.fullmatch(r"[\d.]+", value) else value
        for part in reversed(place.split(".")):
            nested = {part: nested}
        assert isinstance(nested, dict)
        validate(nested)
