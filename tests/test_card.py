"""The model card: valid for the Hub, the run's own figures, no path of the machine, no part of the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flywheel import store
from flywheel.card import base_name, card, source_name, write_card
from flywheel.loop import spin
from flywheel.models import model_digest
from flywheel.recipe import ModelSection, ProblemSource, Recipe, load_recipe
from flywheel.run import Run

TINY = ("problems.count=40", "problems.dev=8", "problems.test=8", "evaluate.resamples=100")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A toy run that has come to its end, with a champion."""
    directory = tmp_path_factory.mktemp("card") / "run"
    with Run.open(load_recipe("toy", TINY), directory) as run:
        spin(run)
    return Run.load(directory)


def test_the_champion_has_a_card_with_the_test_figures(finished: Run) -> None:
    champion = finished.champion()
    assert champion.index > 0
    text = (finished.directory / champion.path / "README.md").read_text(encoding="utf-8")
    test = store.read_json(finished.directory / "final/metrics.json")["test"]
    assert f"| pass@1 | {test['base']['pass_at']['1']:.3f} [" in text
    assert f"{test['difference']['1']['value']:+.3f} [" in text
    assert "test problems that nothing was selected on" in text
    assert "## Limits" in text
    assert str(finished.directory) not in text and str(Path.home()) not in text


def test_the_hub_reads_it(finished: Run) -> None:
    from huggingface_hub import ModelCard

    loaded = ModelCard.load(finished.directory / finished.champion().path / "README.md")
    assert loaded.data.library_name == "transformers"
    assert "expert-iteration" in loaded.data.tags
    results = {r.metric_type: r.metric_value for r in loaded.data.eval_results}
    test = store.read_json(finished.directory / "final/metrics.json")["test"]
    assert results["pass@1"] == pytest.approx(test["champion"]["pass_at"]["1"], abs=1e-4)


def test_a_card_is_no_part_of_the_weights(finished: Run) -> None:
    champion = finished.champion()
    assert model_digest(finished.directory / champion.path) == finished.model_digest(champion)
    with Run.open(finished.recipe, finished.directory) as run:
        assert spin(run).index == champion.index, "the finished run is taken up again and nothing has changed"


def test_only_champions_have_one(finished: Run) -> None:
    for generation in finished.generations():
        if generation.status == "rejected":
            assert not (finished.directory / generation.path / "README.md").exists()


def test_the_base_gets_none(tmp_path: Path, finished: Run) -> None:
    fresh = tmp_path / "run"
    fresh.mkdir()
    for name in ("recipe.json", "run.json", "problems.parquet"):
        (fresh / name).write_bytes((finished.directory / name).read_bytes())
    assert write_card(Run.load(fresh)) is None


def test_texts_of_a_recipe_cannot_change_the_front_matter(finished: Run) -> None:
    from huggingface_hub import ModelCard

    recipe = finished.recipe.model_copy(
        update={"problems": finished.recipe.problems.model_copy(update={"name": 'a": {}\n---\nlicense: mit\n# "ü'})}
    )
    loaded = ModelCard(card(Run(finished.directory, recipe, finished.reporter), finished.champion()))
    assert loaded.data.license is None
    assert loaded.data.eval_results[0].dataset_type == 'a": {}\n---\nlicense: mit\n# "ü'


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ({"source": "reasoning_gym", "name": "chain_sum"}, ("chain_sum", False)),
        ({"source": "file", "path": ["/home/somebody/a.jsonl", "b.parquet"]}, ("a.jsonl, b.parquet", False)),
        ({"source": "generator", "name": "/home/somebody/mine.py:Sums"}, ("mine.py:Sums", False)),
        ({"source": "datasets", "name": "openai/gsm8k"}, ("openai/gsm8k", True)),
        ({"source": "datasets", "name": "data/mine"}, ("mine", False)),
        ({"source": "datasets", "name": "/home/somebody/data/mine"}, ("mine", False)),
    ],
)
def test_problems_by_name(
    source: dict[str, Any], told: tuple[str, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data/mine").mkdir(parents=True)
    assert source_name(ProblemSource(**source)) == told


def test_of_files_of_the_machine_only_names_are_told(finished: Run) -> None:
    problems = finished.recipe.problems.model_copy(update={"source": "file", "path": "/home/somebody/mine.jsonl"})
    run = Run(finished.directory, finished.recipe.model_copy(update={"problems": problems}), finished.reporter)
    run.facts["verifiers"] = {"/home/somebody/judge.py:Mine": {"version": "3"}}
    text = card(run, finished.champion())
    assert "mine.jsonl" in text and "`judge.py:Mine` 3" in text
    assert "/home/somebody" not in text and "chain_sum" not in text


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("toy", [], "what was kept of its own answers, with flywheel"),
        ("toy", ['filter.by="none"'], "whatever the verifier said of them"),
        ("toy", ['sampling.extra=[{model = "other", share = 0.5}]'], "of answers of its own and of other models"),
        ("grpo", [], "policy gradients (GRPO)"),
        ("addition", [], "what was kept of its own answers, with flywheel"),
    ],
)
def test_a_card_says_by_what_the_weights_were_made(finished: Run, name: str, settings: list[str], told: str) -> None:
    recipe = load_recipe(name, settings)
    text = card(Run(finished.directory, recipe, finished.reporter), finished.champion())
    assert told in text
    assert ("A gate accepts or rejects" in text) == recipe.gate.enabled == (name != "addition")


@pytest.mark.parametrize(
    ("base", "told"),
    [
        ("smollm2-135m-instruct", ("HuggingFaceTB/SmolLM2-135M-Instruct", True)),
        ("Qwen/Qwen3-0.6B", ("Qwen/Qwen3-0.6B", True)),
        ("/home/somebody/models/mine", ("mine", False)),
        ("weights/mine.gguf", ("mine.gguf", False)),
    ],
)
def test_bases_by_name(base: str, told: tuple[str, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if not told[1] and not base.startswith("/"):
        Path(base).parent.mkdir()
        Path(base).touch()
    assert base_name(Recipe(model=ModelSection(base=base))) == told
