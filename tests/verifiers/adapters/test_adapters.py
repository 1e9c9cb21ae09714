"""Other projects' reward functions as verifiers, called as those projects call them."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel import Outcome, PluginError, Problem, Sample, check_verifier
from flywheel.identity import verifier_identity
from flywheel.judgements import to_judgement
from flywheel.judging import judge_one
from flywheel.plugins import make_verifier
from flywheel.recipe import VerifySection
from flywheel.verify import VerifierPool

REWARDS = """
import asyncio
from helpers import WORTH

def accuracy(prompts, completions, solution, **kwargs):
    assert kwargs["trainer_state"] is None
    kwargs["log_extra"]("solution", solution)
    kwargs["log_metric"]("seen", 1.0)
    return [WORTH if c.endswith(s) else 0.0 for c, s in zip(completions, solution)]

def conversational(prompts, completions, target, **kwargs):
    assert prompts[0][-1]["role"] == "user" and completions[0][0]["role"] == "assistant"
    return [float(c[0]["content"] == t) for c, t in zip(completions, target)]

async def slow_accuracy(completions, answer, **kwargs):
    await asyncio.sleep(0)
    return [float(c == a) for c, a in zip(completions, answer)]

def named_only(completions, answer):
    return [float(c == a) for c, a in zip(completions, answer)]

def by_completion(completions, **kwargs):
    return eval(completions[0])

def compute_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    if data_source == "dapo":
        return {"score": 1.0 if solution_str == ground_truth else -1.0, "acc": 1, "pred": solution_str}
    if data_source == "info":
        return extra_info["index"] == 7 and kwargs.get("strict", False)
    return float(solution_str == ground_truth)

async def correct_answer(completion, answer):
    return 1.0 if answer in completion[-1]["content"] else 0.0

def parsed(parser, completion, answer, state, info):
    assert state["completion"] == completion and info == {"level": 3}
    return float(parser.parse_answer(completion) == answer)

def everything(prompt, level, **kwargs):
    return float(prompt[0]["content"] == "?" and level == 3 and {"state", "task", "completion"} <= kwargs.keys())

def group(completions, answers):
    return [0.0 for _ in completions]

def process_results(doc, results):
    assert len(results) == 1
    return {"exact_match": float(results[0].strip() == doc["target"]), "length": 12}

def process_single(doc, results):
    return {"my_metric": int(results[0] == doc["answer"])}

def same_text(predictions, references, ignore_case=False):
    pairs = [(p.lower(), r.lower()) if ignore_case else (p, r) for p, r in zip(predictions, references)]
    return {"exact_match": sum(p == r for p, r in pairs) / len(pairs)}

class Cut:
    def __init__(self, before):
        self.before = before
    def apply(self, resps, docs):
        assert len(resps) == len(docs) == 1
        return [[text.rpartition(self.before)[2].strip() for text in texts] for texts in resps]

class First:
    def apply(self, resps, docs):
        return map(lambda texts: texts[0], resps)

class Nothing:
    def apply(self, resps, docs):
        return [[] for _ in resps]

NOT_CALLABLE = 3
"""


@pytest.fixture(scope="module")
def rewards(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("rewards")
    (folder / "helpers.py").write_text("WORTH = 1.0\n")
    (folder / "my_rewards.py").write_text(REWARDS)
    return str(folder / "my_rewards.py")


def judge(verifier: str, options: dict[str, Any], completion: str, **problem: Any) -> tuple[Outcome, float]:
    fields: dict[str, Any] = {"id": "p", "prompt": "?", "answer": "42", **problem}
    judgement = to_judgement(make_verifier(verifier, options).verify(Problem(**fields), completion))
    return judgement.outcome, judgement.score


CORRECT, WRONG, ERROR = (Outcome.CORRECT, 1.0), (Outcome.WRONG, 0.0), (Outcome.ERROR, 0.0)


# -- TRL --------------------------------------------------------------------------------------------


def test_a_trl_function_gets_its_columns(rewards: str) -> None:
    options = {"function": f"{rewards}:accuracy", "columns": {"solution": "answer"}}
    assert judge("trl", options, "it is 42") == CORRECT
    assert judge("trl", options, "it is 41") == WRONG
    own = {"function": f"{rewards}:accuracy"}
    assert judge("trl", own, "it is 43", solution="43") == CORRECT


def test_a_conversational_trl_function(rewards: str) -> None:
    options = {"function": f"{rewards}:conversational", "columns": {"target": "meta.gold.text"}}
    problem = {"meta": {"gold": {"text": "x"}}, "messages": [{"role": "user", "content": "?"}]}
    assert judge("trl", options, "x", **problem) == CORRECT
    assert judge("trl", {**options, "conversational": True}, "y", meta=problem["meta"]) == WRONG


def test_an_async_function_and_one_that_takes_no_more_than_it_names(rewards: str) -> None:
    for name in ("slow_accuracy", "named_only"):
        assert judge("trl", {"function": f"{rewards}:{name}"}, "42") == CORRECT
        assert judge("trl", {"function": f"{rewards}:{name}"}, "41") == WRONG


def test_an_async_function_works_inside_somebodys_loop(rewards: str) -> None:
    async def inside() -> tuple[Outcome, float]:
        return judge("trl", {"function": f"{rewards}:slow_accuracy"}, "42")

    assert asyncio.run(inside()) == CORRECT


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        ("[0.999]", (Outcome.WRONG, 0.999)),
        ("[True]", CORRECT),
        ("[None]", ERROR),
        ("[float('nan')]", ERROR),
        ("[float('-inf')]", ERROR),
        ("[2.0]", ERROR),
        ("[-1]", ERROR),
        ("[10**400]", ERROR),
        ("['1.0']", ERROR),
        ("[]", ERROR),
        ("[1.0, 1.0]", ERROR),
        ("None", ERROR),
        ("1.0", ERROR),
        ("'1'", ERROR),
        ("{0: 1.0}", ERROR),
        ("__import__('numpy').array([1.0])", CORRECT),
        ("__import__('numpy').array([[1.0, 0.0]])", ERROR),
    ],
)
def test_what_a_function_returns_is_a_judgement_or_an_error(
    rewards: str, returned: str, expected: tuple[Outcome, float]
) -> None:
    assert judge("trl", {"function": f"{rewards}:by_completion"}, returned) == expected


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    reward=st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.complex_numbers()
    | st.decimals()
    | st.fractions()
    | st.lists(st.floats(), max_size=2),
    bounds=st.tuples(st.floats(-9, 0), st.floats(0.5, 9)),
)
def test_no_reward_breaks_the_adapter_or_leaves_the_range(
    rewards: str, reward: Any, bounds: tuple[float, float]
) -> None:
    low, high = bounds
    function = {"function": f"{rewards}:named_only", "lowest": low, "highest": high, "threshold": high}
    judgement = make_verifier("trl", function)._judged(reward)  # type: ignore[attr-defined]
    assert to_judgement(judgement) == judgement or judgement.outcome == Outcome.ERROR
    number = isinstance(reward, (bool, int, float)) or type(reward).__name__ == "Fraction"
    inside = number and math.isfinite(reward) and low - 1e-9 <= reward <= high + 1e-9
    assert (judgement.outcome == Outcome.ERROR) == (not inside)
    assert (judgement.outcome == Outcome.CORRECT) == bool(inside and reward >= high - 1e-9)


def test_a_range_and_a_threshold_of_its_own(rewards: str) -> None:
    options = {"function": f"{rewards}:by_completion", "lowest": -1.0, "highest": 3.0, "threshold": 2.0}
    assert judge("trl", options, "[-1]") == (Outcome.WRONG, 0.0)
    assert judge("trl", options, "[1]") == (Outcome.WRONG, 0.5)
    assert judge("trl", options, "[2]") == (Outcome.CORRECT, 0.75)


# -- verl, rubrics, lm-eval -------------------------------------------------------------------------


def test_verl_scores_by_number_and_by_dict(rewards: str) -> None:
    options = {"function": f"{rewards}:compute_score"}
    assert judge("verl", options, "42") == CORRECT
    assert judge("verl", options, "41") == WRONG
    dapo = {**options, "data_source": "dapo", "lowest": -1.0}
    assert judge("verl", dapo, "42") == CORRECT
    assert judge("verl", dapo, "41") == WRONG
    assert judge("verl", {**options, "ground_truth": "meta.gold"}, "x", meta={"gold": "x"}) == CORRECT
    info = {**options, "arguments": {"strict": True}}
    assert judge("verl", info, "", meta={"data_source": "info", "extra_info": {"index": 7}}) == CORRECT
    shown = make_verifier("verl", dapo).verify(Problem(id="p", prompt="?", answer="42"), "41")
    assert to_judgement(shown).answer == "41"


def test_a_place_that_a_problem_lacks_is_an_error_of_that_sample(rewards: str) -> None:
    options = {"function": f"{rewards}:compute_score", "ground_truth": "meta.gold"}
    with pytest.raises(PluginError, match=r"problem 'p' has no 'meta\.gold'"):
        judge("verl", options, "x")


def test_rubric_functions_get_what_they_name(rewards: str) -> None:
    assert judge("rubric", {"function": f"{rewards}:correct_answer"}, "it is 42") == CORRECT
    assert judge("rubric", {"function": f"{rewards}:correct_answer"}, "it is 41") == WRONG
    assert judge("rubric", {"function": f"{rewards}:parsed"}, "42", meta={"level": 3}) == CORRECT
    assert judge("rubric", {"function": f"{rewards}:parsed"}, "41", meta={"info": {"level": 3}}) == WRONG
    assert judge("rubric", {"function": f"{rewards}:everything"}, "", meta={"level": 3}) == CORRECT


def test_a_group_function_is_refused(rewards: str) -> None:
    with pytest.raises(PluginError, match="compares several completions"):
        judge("rubric", {"function": f"{rewards}:group"}, "42")


def test_lm_eval_takes_one_metric(rewards: str) -> None:
    options = {"function": f"{rewards}:process_results", "columns": {"target": "answer"}}
    assert judge("lm_eval", options, " 42 ") == CORRECT
    assert judge("lm_eval", options, "41") == WRONG
    assert judge("lm_eval", {**options, "metric": "length"}, "42") == ERROR  # 12 is no score
    assert judge("lm_eval", {**options, "metric": "length", "highest": 12.0, "threshold": 12.0}, "42") == CORRECT
    assert judge("lm_eval", {**options, "metric": "nothing"}, "42") == ERROR
    assert judge("lm_eval", {"function": f"{rewards}:process_single"}, "42") == CORRECT


def test_lm_eval_takes_a_metric_that_compares(rewards: str) -> None:
    options = {"function": f"{rewards}:same_text", "arguments": {"ignore_case": True}, "reference": "meta.word"}
    problem = Problem("p", "Say it.", "", meta={"word": "Yes"})
    verifier = make_verifier("lm_eval", options)
    found = [judge_one(verifier, problem, text) for text in ("yes", "no")]
    assert [(j.outcome, j.score) for j in found] == [CORRECT, WRONG]


def test_lm_eval_puts_filters_before_the_metric(rewards: str) -> None:
    filters = [{"function": f"{rewards}:Cut", "before": "####"}, {"function": f"{rewards}:First"}]
    options = {"function": f"{rewards}:process_results", "columns": {"target": "answer"}, "filters": filters}
    assert judge("lm_eval", options, "6 times 7\n#### 42") == CORRECT
    assert judge("lm_eval", options, "42\n#### 41") == WRONG
    verifier = make_verifier("lm_eval", options)
    assert judge_one(verifier, Problem("p", "", "42"), "so #### 42").answer == "42"
    assert len(verifier_identity("lm_eval", options)["identity"]["filters"]) == 2
    broken = {**options, "filters": [{"function": f"{rewards}:Nothing"}]}
    assert judge("lm_eval", broken, "42") == ERROR
    for filters, says in (([{}], "has no function"), ([{"function": f"{rewards}:Cutt"}], "has no 'Cutt'")):
        with pytest.raises(PluginError, match=says):
            make_verifier("lm_eval", {**options, "filters": filters})


# -- names, identity, workers -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("nowhere.py:f", "there is no file"),
        ("nosuchmodule.x:f", "there is no module 'nosuchmodule'"),
        ("no_colon", "not of the form"),
        ("{}:acuracy", "has no 'acuracy'; it has"),
        ("flywheel.nothing:f", "flywheel.nothing has no Python file"),
    ],
)
def test_a_function_that_is_not_there_is_told_at_once(rewards: str, function: str, says: str) -> None:
    with pytest.raises(PluginError) as caught:
        make_verifier("trl", {"function": function.format(rewards)})
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"threshold": 0.0}, {"threshold": 2.0}, {"lowest": 1.0}, {"highest": math.inf, "threshold": 5.0}]
)
def test_a_range_that_makes_no_sense_is_refused(rewards: str, options: dict[str, Any]) -> None:
    with pytest.raises(PluginError, match="threshold|finite"):
        make_verifier("trl", {"function": f"{rewards}:accuracy", **options})


def test_making_an_adapter_does_not_run_the_file(tmp_path: Path) -> None:
    file = tmp_path / "loud.py"
    file.write_text("raise SystemExit('ran')\n\ndef f(completions):\n    return [1.0]\n")
    made = make_verifier("trl", {"function": f"{file}:f"})
    with pytest.raises(PluginError, match="cannot be loaded: SystemExit: ran"):
        made.verify(Problem(id="p", prompt="", answer=""), "")


def test_identity_follows_the_function_and_what_it_imports(tmp_path: Path) -> None:
    (tmp_path / "helpers_of_mine.py").write_text("WORTH = 1.0\n")
    file = tmp_path / "mine.py"
    file.write_text("from helpers_of_mine import WORTH\n\ndef f(completions):\n    return [WORTH]\n")
    (tmp_path / "unrelated.py").write_text("\n")
    options = {"function": f"{file}:f"}
    first = verifier_identity("trl", options)
    assert first["name"] == "trl" and len(first["identity"]["function_source"]) == 64
    (tmp_path / "unrelated.py").write_text("# edited\n")
    assert verifier_identity("trl", options) == first
    (tmp_path / "helpers_of_mine.py").write_text("WORTH = 0.5\n")
    second = verifier_identity("trl", options)
    assert second["identity"]["function_source"] != first["identity"]["function_source"]
    file.write_text(file.read_text() + "# edited\n")
    assert verifier_identity("trl", options)["identity"]["function_source"] != second["identity"]["function_source"]


def test_identity_of_an_installed_function_has_its_packages_version() -> None:
    found = verifier_identity("trl", {"function": "trl.rewards:think_format_reward"})
    assert found["identity"]["function_package"].startswith("trl ")


def test_in_workers_a_function_that_hangs_exits_or_raises_costs_one_sample(rewards: str) -> None:
    section = VerifySection(
        verifier="trl", options={"function": f"{rewards}:by_completion"}, workers=1, deadline_seconds=1.0
    )
    texts = ["[1.0]", "__import__('time').sleep(60)", "[1.0]", "__import__('os')._exit(3)", "1/0", "[0.0]"]
    samples = [Sample(f"s{i}", "p", 0, 0, i, t, "stop", 1, 1.0, "", "policy") for i, t in enumerate(texts)]
    with VerifierPool(section) as pool:
        verdicts = pool.submit([Problem(id="p", prompt="", answer="")], samples).result(60)
    assert [v.outcome for v in verdicts] == ["correct", "timeout", "correct", "error", "error", "wrong"]
    assert "ZeroDivisionError" in verdicts[4].detail


@pytest.mark.parametrize(
    ("verifier", "name", "options"),
    [
        ("trl", "named_only", {}),
        ("trl", "slow_accuracy", {}),
        ("verl", "compute_score", {}),
        ("lm_eval", "process_results", {"columns": {"target": "answer"}}),
    ],
)
def test_the_adapters_hold_the_invariants(rewards: str, verifier: str, name: str, options: dict[str, Any]) -> None:
    assert check_verifier(verifier, {"function": f"{rewards}:{name}", **options}).violations == []
