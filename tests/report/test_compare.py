"""Comparing runs: paired on the problems they share, refused where they share none, cautious where settings differ."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flywheel import store
from flywheel.cli import main
from flywheel.errors import RunError
from flywheel.progress import Silent
from flywheel.report.compare import as_page, compare, lines
from flywheel.run import Run
from flywheel.types import Problem, Split


@pytest.fixture
def two(run_folder: Callable[..., Run]) -> dict[str, Run]:
    """Two finished runs on the same four test problems; the second one's champion is right more often."""
    runs = {name: run_folder(rounds=2, finale=True, name=name) for name in ("one", "two")}
    for name, run in runs.items():
        path = run.directory / "final/metrics.json"
        metrics = store.read_json(path)
        for who, right in (("base", [0, 1, 1, 2]), ("champion", [1, 1, 2, 2] if name == "one" else [2, 3, 3, 4])):
            metrics["test"][who]["counts"] = {f"p{n}": [4, c] for n, c in enumerate(right)}
        store.write_json(path, metrics)
    return {name: Run.load(run.directory) for name, run in runs.items()}


def test_champions_are_paired_by_problem(two: dict[str, Run]) -> None:
    told = compare(two)
    assert (told["split"], told["n_problems"], told["ks"]) == ("test", 4, ["1", "2", "4"])
    one, other = told["runs"]
    assert one["champion"]["pass_at"]["1"] == pytest.approx(6 / 16)
    assert one["gain"]["1"]["value"] == pytest.approx(2 / 16)
    assert one["against_first"] is None
    assert other["against_first"]["1"]["value"] == pytest.approx(6 / 16)
    assert other["against_first"]["1"]["low"] > 0
    assert told["cautions"] == []
    json.dumps(told, allow_nan=False)


def test_a_problem_is_the_same_by_its_content_and_not_by_its_id(two: dict[str, Run]) -> None:
    directory = two["two"].directory
    renamed = {f"p{n}": f"other-{n}" for n in range(4)}
    problems = [Problem(renamed[p.id], p.prompt, p.answer, split=Split.DEV) for p in two["two"].problems]
    store.write_rows(directory / "problems.parquet", Problem, problems)
    metrics = store.read_json(directory / "final/metrics.json")
    for who in ("base", "champion"):
        counts = metrics["test"][who]["counts"]
        metrics["test"][who]["counts"] = {renamed[p]: pair for p, pair in counts.items()}
    store.write_json(directory / "final/metrics.json", metrics)
    told = compare({**two, "two": Run.load(directory)})
    assert told["runs"][1]["against_first"]["1"]["value"] == pytest.approx(6 / 16)


def change_problem(run: Run, number: int) -> Run:
    problems = [Problem(p.id, p.prompt + "?" * (p.id == f"p{number}"), p.answer, split=Split.DEV) for p in run.problems]
    store.write_rows(run.directory / "problems.parquet", Problem, problems)
    return Run.load(run.directory)


def test_other_problems_are_refused(two: dict[str, Run]) -> None:
    two["two"] = change_problem(two["two"], 3)
    with pytest.raises(
        RunError, match=r"one and two were measured on other test problems: 3 of 4 are shared.*--shared"
    ):
        compare(two)
    told = compare(two, shared=True)
    assert told["n_problems"] == 3
    assert told["runs"][0]["champion"]["pass_at"]["1"] == pytest.approx(4 / 12)
    for number in range(3):
        two["two"] = change_problem(two["two"], number)
    with pytest.raises(RunError, match="0 of 4 are shared, so their rates say nothing about each other.$"):
        compare(two, shared=True)


def test_what_makes_rates_differ_is_told(two: dict[str, Run]) -> None:
    path = two["two"].directory / "recipe.json"
    recipe = store.read_json(path)
    recipe["evaluate"]["temperature"] = 0.5
    recipe["evaluate"]["samples"] = 2
    store.write_json(path, recipe)
    told = compare({**two, "two": Run.load(two["two"].directory)})
    assert told["ks"] == ["1", "2"]
    assert "two differs from one in the temperature of evaluation: 0.5 against 1.0" in told["cautions"]
    assert any("pass@2" in caution for caution in told["cautions"])
    assert "! two differs from one in the temperature" in "\n".join(lines(told))


def test_who_judges_held_out_problems_is_told_and_who_judges_others_is_not(two: dict[str, Run]) -> None:
    verify = two["two"].recipe.verify
    asked = verify.model_copy(update={"verifier": "majority", "options": {"min_share": 0.25}, "held_out": "math"})
    for options, differs in (({}, False), ({"last_number": True}, True)):
        changed = asked.model_copy(update={"held_out_options": options})
        two["two"] = Run(two["two"].directory, two["two"].recipe.model_copy(update={"verify": changed}), Silent())
        path = two["two"].directory / "problems.parquet"
        problems = store.read_rows(path, Problem)
        store.write_rows(path, Problem, [replace(p, verifier="" if p.split == "train" else "math") for p in problems])
        found = [caution for caution in compare(two)["cautions"] if "verifiers" in caution]
        assert bool(found) == differs, found


def test_a_run_under_way_is_compared_on_dev_and_it_says_so(two: dict[str, Run], run_folder: Callable[..., Run]) -> None:
    two["three"] = run_folder(
        rounds=1, finale=False, name="three", full=False
    )  # of the first version: counts from rows
    told = compare(two)
    assert told["split"] == "dev"
    assert told["n_problems"] == 4
    assert any("dev figures" in caution for caution in told["cautions"])


def test_the_command(two: dict[str, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [str(run.directory) for run in two.values()]
    page = tmp_path / "compare.html"
    assert main(["compare", *names, "--html", str(page)]) == 0
    out = capsys.readouterr().out
    assert "4 test problems" in out and "pass@4" in out and "+0.375 [" in out
    assert page.read_text(encoding="utf-8").count('data-chart="champions"') == 1
    assert main(["compare", *names, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_problems"] == 4
    assert main(["compare", names[0]]) == 2
    assert "give two different runs" in capsys.readouterr().err
    assert main(["compare", names[0], str(tmp_path / "no")]) == 2


def test_names_of_runs_cannot_become_markup(two: dict[str, Run]) -> None:
    named = {"<script>a</script>": two["one"], "b": two["two"]}
    html = as_page(compare(named))
    assert "<script>a" not in html


def test_report_as_json(two: dict[str, Run], capsys: pytest.CaptureFixture[str]) -> None:
    directory = two["one"].directory
    assert main(["report", str(directory), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["champion"] == 1
    assert not (directory / "report.html").exists()
