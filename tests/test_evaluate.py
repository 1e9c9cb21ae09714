"""Evaluate: what stands in the metrics of a set and of a round, counted by hand."""

from __future__ import annotations

import json
import random

import pytest

from flywheel.evaluate import measure, measure_round
from flywheel.recipe import EvaluateSection
from flywheel.types import Origin, Outcome, Sample, Verdict

SECTION = EvaluateSection(samples=4, resamples=500)


def rows(by_problem, *, origin=Origin.POLICY, finish="stop"):
    samples, verdicts = [], {}
    for problem, group in by_problem.items():
        for i, (text, outcome) in enumerate(group):
            name = f"{origin}/{problem}/{i}"
            samples.append(Sample(name, problem, 0, 0, i, text, finish, 10, 1.0, "{prompt}", origin))
            verdicts[name] = Verdict(name, problem, outcome, 1.0, text[-1:] or None, "", "math", "1", "worker")
    return samples, verdicts


def of(outcomes):
    return rows({p: [(f"{i} + 1 = {i + 1}", outcome) for i, outcome in enumerate(g)] for p, g in outcomes.items()})


def test_errors_are_in_no_pass_rate():
    samples, verdicts = of({"a": [Outcome.CORRECT, Outcome.ERROR, Outcome.WRONG, Outcome.TIMEOUT]})
    metrics = measure(samples, verdicts, SECTION, seed=0)
    assert (metrics["errors"], metrics["error_share"]) == (1, 0.25)
    assert metrics["counts"] == {"a": [3, 1]}
    assert metrics["pass_at"]["1"] == pytest.approx(1 / 3)
    assert "4" not in metrics["pass_at"]


def test_measure_counts_what_it_says():
    samples, verdicts = of({"a": [Outcome.CORRECT] * 4, "b": [Outcome.WRONG] * 4})
    metrics = measure(samples, verdicts, SECTION, seed=0)
    assert (metrics["n_problems"], metrics["n_samples"], metrics["correct"], metrics["solved"]) == (2, 8, 4, 1)
    assert metrics["paths"] == {"a": 4}
    assert metrics["distinct_paths"] == 4 and metrics["paths_per_solved"] == 4.0
    assert metrics["paths_rarefied"] == pytest.approx(2.0) and metrics["rarefied_at"] == 2
    assert metrics["balance"] == pytest.approx(0.25)  # half of eight on one problem, nothing on the other
    assert metrics["pass_at"] == {"1": 0.5, "2": 0.5, "4": 0.5}
    assert metrics["intervals"]["1"] == [0.0, 1.0]
    assert (metrics["tokens"], metrics["mean_tokens"], metrics["length"]["p99"]) == (80, 10.0, 10.0)
    assert metrics["against_base"] is None and metrics["mean_logprob"] is None
    assert metrics == measure(samples, verdicts, SECTION, seed=0)


def test_against_base_and_champion_pair_by_problem():
    samples, verdicts = of({"a": [Outcome.CORRECT] * 4, "b": [Outcome.WRONG] * 4})
    metrics = measure(
        samples, verdicts, SECTION, seed=0, base={"a": (4, 2), "b": (4, 0)}, champion={"a": (4, 4), "b": (4, 0)}
    )
    assert metrics["against_base"]["1"]["value"] == pytest.approx(0.25)
    assert set(metrics["against_base"]) == {"1", "2", "4"}
    assert metrics["against_champion"]["4"] == {"value": 0.0, "low": 0.0, "high": 0.0, "n_problems": 2.0}


def test_endings():
    samples, verdicts = of({"a": [Outcome.WRONG] * 2})
    cut, more = rows({"b": [("so long", Outcome.NO_ANSWER)]}, finish="length")
    refused, rest = rows({"c": [("", Outcome.NO_ANSWER)]}, finish="error")
    metrics = measure([*samples, *cut, *refused], verdicts | more | rest, SECTION, seed=0)
    assert (metrics["cut_off_share"], metrics["missing_end_share"]) == (0.25, 0.5)


def test_what_cannot_be_measured_is_none_and_all_of_it_is_json():
    metrics = measure([], {}, SECTION, seed=0)
    json.dumps(metrics, allow_nan=False)
    assert metrics["n_samples"] == 0 and metrics["pass_at"] == {}
    for name in ("paths_per_solved", "paths_rarefied", "self_bleu", "answer_entropy", "balance", "error_share"):
        assert metrics[name] is None, name
    assert metrics["cut_off_share"] is None and metrics["markers"]["density"] is None


def test_the_order_of_samples_does_not_matter():
    chance = random.Random(0)
    groups = {
        f"p{i}": [(f"{chance.randint(1, 3)} + 1 = 4. Wait, hmm", chance.choice(list(Outcome))) for _ in range(6)]
        for i in range(12)
    }
    samples, verdicts = rows(groups)
    shuffled = chance.sample(samples, len(samples))
    first, second = (measure(s, verdicts, SECTION, seed=0) for s in (samples, shuffled))
    assert flat(second) == pytest.approx(flat(first))


def flat(value, path=""):
    if isinstance(value, dict):
        return {k: v for name, inner in value.items() for k, v in flat(inner, f"{path}/{name}").items()}
    if isinstance(value, list):
        return {k: v for i, inner in enumerate(value) for k, v in flat(inner, f"{path}/{i}").items()}
    return {path: value}


def test_texts_are_drawn_by_whole_problems_where_there_are_too_many():
    """One problem in two repeats one text, the other never: a sample of samples would blur that."""
    groups = {
        f"p{i:03d}": [("all the same words here" if i % 2 else f"{i} {j} and so on", Outcome.WRONG) for j in range(8)]
        for i in range(60)
    }
    samples, verdicts = rows(groups)
    whole = measure(samples, verdicts, EvaluateSection(resamples=100), seed=0)
    drawn = measure(samples, verdicts, EvaluateSection(resamples=100, text_samples=240), seed=0)
    assert (whole["text_samples"], drawn["text_samples"]) == (480, 240)
    assert whole["n_samples"] == drawn["n_samples"] == 480
    assert drawn["self_bleu"] == pytest.approx(whole["self_bleu"], abs=0.15)
    assert drawn["self_bleu"] != whole["self_bleu"]


def test_hinted_samples_of_a_round_stand_apart():
    own, verdicts = rows({"a": [("2 + 3 = 5", Outcome.CORRECT), ("wait, 6", Outcome.WRONG)]})
    hinted, more = rows({"a": [("5, clearly", Outcome.CORRECT)], "b": [("7", Outcome.CORRECT)]}, origin=Origin.HINTED)
    metrics = measure_round([*own, *hinted], verdicts | more, SECTION, seed=0)
    assert (metrics["n_samples"], metrics["correct"], metrics["distinct_paths"]) == (2, 1, 1)
    assert metrics["hinted_share"] == 0.5
    assert metrics["guided"]["n_samples"] == metrics["guided"]["correct"] == 2
    assert metrics["markers"]["count_per_response"] == 0.5
    assert metrics["hinted_markers"]["count_per_response"] == 0.0
    assert measure_round(own, verdicts, SECTION, seed=0)["guided"] is None
