"""Preference pairs: who is set against whom, in single problems and in whole runs of the toy."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel import store
from flywheel.errors import RecipeError, TrainingError
from flywheel.lineage import trace
from flywheel.loop import spin
from flywheel.pairs import REASONS, Judged, length_ratio, preference_pairs
from flywheel.policy import toy
from flywheel.recipe import DpoOptions, load_recipe
from flywheel.report import render
from flywheel.run import Run
from flywheel.types import Example, Outcome, Pair, Sample, Verdict

RIGHT, WRONG = Outcome.CORRECT, Outcome.WRONG


def judged(*rows: tuple[Any, ...], round_index: int = 0, kept: set[int] | None = None) -> Judged:
    """A problem's samples as (outcome, score, tokens, finish reason, origin); the right ones are examples."""
    samples, verdicts, examples = [], {}, []
    for i, row in enumerate(rows):
        outcome, score, tokens, finish, origin = (*row, *(None, 1.0, 10, "stop", "policy")[len(row) :])
        name = f"r{round_index:03d}/p/{i:03d}"
        text = f"text {i} of round {round_index}"
        samples.append(Sample(name, "p", round_index, 0, i, text, finish, tokens, 1.0, "", origin))
        verdicts[name] = Verdict(name, "p", outcome, score, None, "", "v", "1", "none")
        if i in kept if kept is not None else outcome == RIGHT:
            examples.append(Example(name, "p", round_index, [{"role": "user", "content": "?"}], text, origin))
    return Judged(samples, verdicts, examples)


def of(rows: Judged, **options: Any) -> tuple[list[tuple[str, str]], dict[str, int]]:
    pairs, without = preference_pairs([rows], DpoOptions(**options))
    return [(p.chosen_id[-1], p.rejected_id[-1]) for p in pairs], without


def test_right_is_set_against_wrong_and_each_stands_in_one_pair():
    rows = judged((RIGHT,), (WRONG, 0.0), (RIGHT,), (Outcome.NO_ANSWER, 0.0), (RIGHT,))
    assert of(rows, cap=8) == ([("0", "1"), ("2", "3")], {})
    assert of(rows, cap=1) == ([("0", "1")], {})


def test_what_could_not_be_judged_is_never_rejected():
    assert of(judged((RIGHT,), (Outcome.ERROR, 0.0), (Outcome.TIMEOUT, 0.0))) == ([], {"nothing_lower": 1})
    by_score = judged((RIGHT, 0.9), (Outcome.ERROR, 0.0), (Outcome.TIMEOUT, 0.0))
    assert of(by_score, pairs="score") == ([], {"nothing_lower": 1})


def test_the_widest_gap_comes_first_by_score_right_or_not():
    rows = judged((RIGHT, 0.7), (RIGHT, 0.95), (WRONG, 0.3), (RIGHT, 0.6), kept={0, 1})
    assert of(rows, pairs="score", cap=1) == ([("1", "2")], {})
    assert of(rows, pairs="score", cap=2) == ([("1", "2"), ("0", "3")], {})
    assert of(rows, pairs="score", min_gap=0.2) == ([("1", "2")], {})
    assert of(rows, pairs="score", min_gap=0.9) == ([], {"nothing_lower": 1})


def test_lengths_can_be_matched():
    rows = judged((RIGHT, 1.0, 20), (WRONG, 0.0, 90), (WRONG, 0.0, 26))
    assert of(rows, cap=1) == ([("0", "2")], {}), "the likest length first, with no limit"
    assert of(rows, length_ratio=1.5) == ([("0", "2")], {})
    assert of(rows, length_ratio=1.1) == ([], {"lengths_apart": 1})


def test_cut_off_and_hinted_samples_stand_in_no_pair():
    assert of(judged((RIGHT,), (WRONG, 0.0, 48, "length"))) == ([], {"cut_off": 1})
    assert of(judged((RIGHT,), (Outcome.NO_ANSWER, 0.0, 0, "error"))) == ([], {"cut_off": 1}), "it never said the end"
    assert of(judged((RIGHT, 1.0, 9, "stop", "hinted"), (WRONG, 0.0))) == ([], {"nothing_kept": 1})
    assert of(judged((RIGHT,), (WRONG, 0.0, 9, "stop", "hinted"))) == ([], {"nothing_lower": 1})


def test_a_right_sample_that_the_filter_dropped_is_not_preferred():
    assert of(judged((RIGHT,), (RIGHT,), (WRONG, 0.0), kept={1}))[0] == [("1", "2")]
    assert of(judged((RIGHT,), (WRONG, 0.0), kept=set())) == ([], {"nothing_kept": 1})


def test_rounds_accumulate_latest_first_and_the_same_texts_are_taken_once():
    first, second = judged((RIGHT,), (WRONG, 0.0)), judged((RIGHT,), (WRONG, 0.0), round_index=1)
    pairs, _ = preference_pairs([first, second], DpoOptions())
    assert [p.round for p in pairs] == [1, 0]
    pairs, _ = preference_pairs([first, first], DpoOptions())
    assert len(pairs) == 1
    assert preference_pairs([], DpoOptions()) == ([], {})


OUTCOMES = st.sampled_from(list(Outcome))
ROWS = st.lists(
    st.tuples(
        OUTCOMES,
        st.sampled_from([0.0, 0.5, 1.0]),
        st.integers(0, 50),
        st.sampled_from(["stop", "length"]),
        st.sampled_from(["policy", "hinted", "teacher"]),
    ),
    max_size=9,
)


@given(ROWS, st.sampled_from(["verdict", "score"]), st.sampled_from([None, 1.0, 2.0]), st.integers(1, 4))
def test_every_pair_holds_what_the_options_say(rows, by, ratio, cap):
    ledger = judged(*rows)
    options = DpoOptions(pairs=by, length_ratio=ratio, cap=cap)
    pairs, without = preference_pairs([ledger], options)
    by_id = {s.id: s for s in ledger.samples}
    assert len(pairs) <= cap and set(without) <= set(REASONS)
    unhinted = any(s.origin != "hinted" for s in ledger.samples)
    assert bool(pairs) + bool(without) == unhinted, "a problem gives pairs or a reason"
    used = Counter(i for p in pairs for i in (p.chosen_id, p.rejected_id))
    assert all(times == 1 for times in used.values())
    for pair in pairs:
        chosen, rejected = by_id[pair.chosen_id], by_id[pair.rejected_id]
        assert pair.chosen_id in {e.sample_id for e in ledger.examples}
        assert rejected.finish_reason == "stop" and "hinted" not in (chosen.origin, rejected.origin)
        assert ledger.verdicts[rejected.id].outcome != Outcome.ERROR
        if by == "verdict":
            assert ledger.verdicts[rejected.id].outcome in (Outcome.WRONG, Outcome.NO_ANSWER)
        else:
            assert pair.chosen_score > pair.rejected_score
        if ratio is not None:
            assert length_ratio(chosen, rejected) <= ratio


# ---- whole runs ----------------------------------------------------------------------------------

SMALL = [
    *["problems.count=44", "problems.dev=8", "problems.test=0", "verify.workers=1", "evaluate.samples=1"],
    *["policy.toy.skill=0.4", "stop.max_rounds=3", "gate.enabled=false", "evaluate.resamples=100", "stop.plateau=none"],
    *["verify.verifier=exact", 'verify.options={pattern = "is (-?[0-9]+)$"}', "sampling.problems=24"],
]


def spun(directory: Path, *overrides: str) -> Run:
    with Run.open(load_recipe("toy", [*SMALL, *overrides]), directory) as run:
        spin(run)
    return Run.load(directory)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return spun(
        tmp_path_factory.mktemp("both") / "run",
        "train.objective=sft_then_dpo",
        "train.average={generations=2, stages=true}",
    )


def pairs_in(run: Run, index: int) -> list[Pair]:
    return store.read_rows(run.round(index).folder / "pairs.parquet", Pair)


def test_pairs_of_all_rounds_accumulate_and_are_counted(both: Run) -> None:
    for index in range(3):
        pairs = pairs_in(both, index)
        rounds = Counter(p.round for p in pairs)
        info = both.round(index).manifest.entries()["train"].info
        assert set(rounds) == set(range(index + 1))
        assert info["pairs"]["pairs"] == len(pairs) and info["pairs"]["of_this_round"] == rounds[index]
        asked = {s.problem_id for s in store.read_rows(both.round(index).folder / "samples.parquet", Sample)}
        with_pair = {p.problem_id for p in pairs if p.round == index}
        assert sum(info["pairs"]["none"].values()) == len(asked) - len(with_pair)
    verdicts = store.read_rows(both.round(0).folder / "verdicts.parquet", Verdict)
    outcomes = {v.sample_id: v.outcome for v in verdicts}
    first = [p for p in pairs_in(both, 0) if p.round == 0]
    assert {outcomes[p.chosen_id] for p in first} == {"correct"}
    assert {outcomes[p.rejected_id] for p in first} == {"wrong"}


def test_a_window_of_rounds_bounds_pairs_as_it_bounds_examples(tmp_path: Path) -> None:
    run = spun(tmp_path / "run", "train.objective=dpo", "data.keep=window", "data.window=2")
    assert {p.round for p in pairs_in(run, 2)} == {1, 2}
    assert store.read_rows(run.round(2).folder / "training_set.parquet", Example) == []
    assert toy.read_model(run.model_path(run.champion())).skill > 0.4


def test_trace_says_what_a_sample_was_preferred_to(both: Run) -> None:
    pair = next(p for p in pairs_in(both, 0))
    assert any(line.startswith("preferred") and pair.rejected_id in line for line in trace(both, pair.chosen_id))
    assert any(line.startswith("rejected") and pair.chosen_id in line for line in trace(both, pair.rejected_id))


def test_the_report_says_what_was_learnt_from(both: Run) -> None:
    page = render(both)
    count = both.round(2).manifest.entries()["train"].info["pairs"]["pairs"]
    assert f"DPO on {count} pairs" in page and "averaged with generation 2" in page


def test_the_candidate_is_the_mean_with_the_generation_accepted_before_it(both: Run, tmp_path: Path) -> None:
    infos = [both.round(i).manifest.entries()["train"].info for i in range(3)]
    assert [info.get("averaged") for info in infos] == [None, [1], [2]]
    one, two = (toy.read_model(both.model_path(both.generation(g))) for g in (1, 2))
    rows = store.read_rows(both.round(1).folder / "training_set.parquet", Example)
    start = both.model_path(both.generation(both.generation(2).parent or 0))
    toy.train_toy(start, rows, tmp_path / "sft")
    chosen = [Example(p.chosen_id, p.problem_id, 0, p.messages, p.chosen, "policy") for p in pairs_in(both, 1)]
    toy.train_toy(tmp_path / "sft", chosen, tmp_path / "dpo")
    sft, dpo = (toy.read_model(tmp_path / name) for name in ("sft", "dpo"))
    assert two.skill == pytest.approx(one.skill / 2 + sft.skill / 4 + dpo.skill / 4)


def test_dpo_without_any_pair_says_so_and_sft_then_dpo_goes_without(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="there is no pair"):
        spun(tmp_path / "dpo", "train.objective=dpo", "policy.toy.skill=1.0")
    run = spun(tmp_path / "both", "train.objective=sft_then_dpo", "policy.toy.skill=1.0", "stop.max_rounds=1")
    info = run.round(0).manifest.entries()["train"].info
    assert info["pairs"] == {"pairs": 0, "of_this_round": 0, "none": {"nothing_lower": 24}} and "dpo" not in info


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["sampling.k=1"], "a preference pair takes two; raise sampling.k"),
        (["sampling.budget.mode=adaptive", "sampling.budget.most=1"], "a preference pair takes two"),
        (["filter.by=random"], "pairs rest on verdicts"),
        (["train.fsdp=true"], "set fsdp = false"),
        (["train.average.stages=true"], "which has one stage"),
        (["train.average={}"], "averages nothing"),
        (["train.dpo.length_ratio=0.5"], "train.dpo.length_ratio = 0.5"),
    ],
)
def test_what_cannot_work_with_pairs_is_refused_before_anything_is_loaded(overrides, words):
    with pytest.raises(RecipeError) as caught:
        load_recipe("toy", ["train.objective=dpo", *overrides])
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_general_data_is_frozen_with_the_run_and_held_out_text_is_refused(tmp_path: Path) -> None:
    plain = spun(tmp_path / "plain", "stop.max_rounds=1", "problems.parameters={min_terms=14, max_terms=14}")
    held_out = next(p for p in plain.problems if p.split == "dev")
    rows = [{"prompt": f"Write line {i} of a poem.", "answer": f"The moon is number {i}."} for i in range(40)]
    rows.append({"prompt": held_out.prompt, "answer": "I know this one."})
    file = tmp_path / "general.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = ["stop.max_rounds=1", "problems.parameters={min_terms=14, max_terms=14}", "mix.general=0.25"]
    settings += ["mix.general_source.source=file", f"mix.general_source.path={file}"]
    run = spun(tmp_path / "run", *settings)
    info = run.round(0).manifest.entries()["train"].info
    own = info["rows"] - info["origins"]["general"]
    assert info["origins"]["general"] == min(40, round(own / 3)) and info["general_refused"] == 1
    trained = store.read_rows(run.round(0).folder / "training_set.parquet", Example)
    assert "The moon is number" in next(e.completion for e in trained if e.origin == "general")
    file.unlink()
    again = spun(tmp_path / "run", *settings, "stop.max_rounds=2")
    assert "general" in again.round(1).manifest.entries()["train"].info["origins"], "it was frozen"
