"""Compositions: three-valued logic over parts, each asked only where it can still matter."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from flywheel import (
    DEADLINE_SECONDS,
    PluginError,
    Problem,
    Sample,
    answer_is_question,
    lack_of,
    undecidable,
    unfit_for,
)
from flywheel.identity import verifier_identity
from flywheel.plugins import make_verifier
from flywheel.protocols import traits
from flywheel.recipe import VerifySection
from flywheel.verify import VerifierPool

SAYS = """
from dataclasses import dataclass
from flywheel import Judgement, Outcome

asked = []

@dataclass
class Says:
    \"\"\"Gives the outcome that the completion names for its key: `a=correct b=wrong`.\"\"\"
    name = "says"
    version = "4"
    key: str = "a"
    score: float = 1.0
    def verify(self, problem, completion):
        asked.append(self.key)
        word = dict(w.split("=") for w in completion.split()).get(self.key, "correct")
        if word == "raise": raise ValueError("no table")
        score = self.score if word == "correct" else 0.0
        return Judgement(Outcome(word), score, self.key, word)

class Jailed(Says):
    isolation = "namespaces"

class Unsafe(Says):
    isolation = "unsafe"

class Batched(Says):
    batch_size = 4
    sizes = []
    def verify_batch(self, problems, completions):
        self.sizes.append(len(completions))
        return [self.verify(p, c) for p, c in zip(problems, completions)]

class Asynchronous(Says):
    async def verify(self, problem, completion):
        return super().verify(problem, completion)

class Exclusive(Says):
    exclusive = True

class Waiting(Says):
    deadline_outcome = "error"

class Lacking(Says):
    deadline_seconds = 40.0
    def lacks(self):
        return "no such program"

class Prepared(Says):
    def prepare(self):
        asked.append("prepared")
"""

PROBLEM = Problem(id="p", prompt="?", answer="42")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parts") / "says.py"
    path.write_text(SAYS)
    return path


def part(file: Path, key: str, cls: str = "Says", weight: float = 1.0, **options: Any) -> dict[str, Any]:
    return {"verifier": f"{file}:{cls}", "options": {"key": key, **options}, "weight": weight}


def asked_of(verifier: Any) -> list[str]:
    import sys

    return sys.modules[type(verifier._verifiers[0]).__module__].asked


OUTCOMES = ["correct", "wrong", "no_answer", "timeout", "error"]


@pytest.mark.parametrize(("a", "b"), list(itertools.product(OUTCOMES, OUTCOMES)))
def test_two_parts_in_three_valued_logic(file: Path, a: str, b: str) -> None:
    parts = [part(file, "a"), part(file, "b")]
    known = {"correct": True, "error": None}
    truth = [known.get(word, False) for word in (a, b)]
    both = False if False in truth else None if None in truth else True
    either = True if True in truth else None if None in truth else False

    def verdict(name: str) -> str:
        return str(make_verifier(name, {"parts": parts}).verify(PROBLEM, f"a={a} b={b}").outcome)

    expected = {True: {"correct"}, None: {"error"}, False: {"wrong", "no_answer", "timeout"}}
    assert verdict("all_of") in expected[both]
    assert verdict("any_of") in expected[either]
    if both is False:
        assert verdict("all_of") == (a if truth[0] is False else b)
    if either is False:
        assert verdict("any_of") == min((a, b), key=["wrong", "timeout", "no_answer"].index)
    if "error" in (a, b):
        assert verdict("weighted") == "error"


def test_order_changes_no_outcome_of_any_of_and_no_truth_of_all_of(file: Path) -> None:
    kind = {"correct": "true", "error": "unknown"}
    for name in ("all_of", "any_of"):
        orders = [
            make_verifier(name, {"parts": [part(file, k) for k in keys]}) for keys in itertools.permutations("abc")
        ]
        for words in itertools.product(OUTCOMES, repeat=3):
            text = " ".join(f"{k}={w}" for k, w in zip("abc", words, strict=True))
            found = [str(verifier.verify(PROBLEM, text).outcome) for verifier in orders]
            assert len({kind.get(o, "false") for o in found}) == 1, (name, text, found)
            assert name == "all_of" or len(set(found)) == 1, (name, text, found)


def test_a_part_that_raises_is_its_own_error(file: Path) -> None:
    parts = {"parts": [part(file, "a"), part(file, "b")]}
    assert make_verifier("any_of", parts).verify(PROBLEM, "a=raise").outcome == "correct"
    judged = make_verifier("all_of", parts).verify(PROBLEM, "a=raise")
    assert judged.outcome == "error" and "ValueError: no table" in judged.detail


def test_what_is_decided_is_not_asked_further(file: Path) -> None:
    parts = {"parts": [part(file, k) for k in "abc"]}
    for name, text, asked in [
        ("all_of", "a=wrong", "a"),
        ("all_of", "a=error b=wrong", "ab"),
        ("all_of", "", "abc"),
        ("any_of", "a=wrong", "ab"),
        ("any_of", "a=error b=error", "abc"),
        ("weighted", "a=wrong", "abc"),
    ]:
        verifier = make_verifier(name, parts)
        asked_of(verifier).clear()
        judged = verifier.verify(PROBLEM, text)
        assert "".join(asked_of(verifier)) == asked, (name, text)
        assert judged.detail.count("not asked") == 3 - len(asked)


def test_scores(file: Path) -> None:
    parts = {"parts": [part(file, "a", score=0.6), part(file, "b", score=0.9)]}
    assert make_verifier("all_of", parts).verify(PROBLEM, "").score == 0.6
    assert make_verifier("any_of", parts).verify(PROBLEM, "a=wrong").score == 0.9
    weighted = {"parts": [part(file, "a", weight=3.0), part(file, "b", weight=1.0)]}
    for text, score, outcome in [("", 1.0, "correct"), ("b=wrong", 0.75, "correct"), ("a=timeout", 0.25, "wrong")]:
        judged = make_verifier("weighted", weighted | {"threshold": 0.75}).verify(PROBLEM, text)
        assert (judged.score, judged.outcome) == (score, outcome)
    assert make_verifier("weighted", weighted).verify(PROBLEM, "a=no_answer b=no_answer").outcome == "no_answer"


def test_the_detail_names_every_part_and_the_isolation_is_the_worst(file: Path) -> None:
    jailed, worker = part(file, "a", "Jailed"), {"verifier": "exact", "options": {}}
    verifier = make_verifier("all_of", {"parts": [jailed, worker]})
    assert verifier.isolation == "worker"
    said = make_verifier("all_of", {"parts": [jailed, part(file, "b")]}).verify(PROBLEM, "b=wrong").detail
    assert said == "says 4 [namespaces] correct (correct); says 4 [worker] wrong (wrong)"
    assert make_verifier("any_of", {"parts": [jailed, part(file, "b", "Unsafe")]}).isolation == "unsafe"
    assert make_verifier("any_of", {"parts": [jailed, jailed]}).isolation == "namespaces"
    kernel = {"verifier": "proof", "options": {"kernel": "metamath"}}
    assert make_verifier("all_of", {"parts": [kernel]}).isolation == "kernel"
    assert make_verifier("all_of", {"parts": [kernel, jailed]}).isolation == "namespaces"
    assert make_verifier("all_of", {"parts": [kernel, part(file, "b", "Unsafe")]}).isolation == "unsafe"


def test_identity_covers_the_parts(file: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(SAYS)
    parts = {"parts": [part(own, "a"), {"verifier": "exact"}]}
    first = verifier_identity("all_of", parts)
    assert [p["name"] for p in first["identity"]["parts"]] == ["says", "exact"]
    own.write_text(SAYS + "\n# edited\n")
    assert verifier_identity("all_of", parts) != first


def test_traits_follow_the_parts(file: Path) -> None:
    def of(*parts: dict[str, Any]) -> Any:
        return traits(make_verifier("all_of", {"parts": list(parts)}))

    plain = {"verifier": "exact"}
    assert (of(plain).batch, of(plain).group, of(plain).exclusive) == (False, False, False)
    assert of(plain, part(file, "a", "Batched")).batch and of(plain, part(file, "a", "Batched")).at_once == 4
    assert of(plain, part(file, "a", "Exclusive")).exclusive
    assert of(plain, {"verifier": "majority"}).group
    assert of(plain).deadline_outcome == "timeout"
    assert of(plain).path_kind == "equations" and of(plain, {"verifier": "proof"}).path_kind == "text"
    assert of(plain, part(file, "a", "Waiting")).deadline_outcome == "error"
    nested = {"verifier": "any_of", "options": {"parts": [plain, {"verifier": "majority"}]}}
    assert of(plain, nested).group


def test_what_a_part_lacks_the_whole_lacks_and_its_time_is_theirs_together(file: Path) -> None:
    whole = make_verifier(
        "any_of", {"parts": [part(file, "a"), part(file, "b", "Lacking"), part(file, "c", "Lacking")]}
    )
    assert lack_of(whole) == f"{file}:Lacking: no such program; {file}:Lacking: no such program"
    assert lack_of(make_verifier("all_of", {"parts": [part(file, "a")]})) is None
    assert traits(whole).deadline_seconds == DEADLINE_SECONDS + 2 * 40.0
    voting = {"verifier": "majority", "options": {"min_votes": 5}}
    assert traits(make_verifier("all_of", {"parts": [part(file, "a"), voting]})).min_votes == 5


def test_what_a_part_cannot_judge_the_whole_cannot() -> None:
    tested, voting = {"verifier": "unit_tests"}, {"verifier": "majority", "options": {"max_share": 0.9}}
    whole = make_verifier("any_of", {"parts": [{"verifier": "exact"}, tested, voting]})
    assert (unfit_for(whole, PROBLEM) or "").startswith("unit_tests: the problem has no tests")
    assert (undecidable(whole, 2) or "").startswith("majority: no answer could win a vote of 2")
    assert not answer_is_question(whole)
    easy = make_verifier("all_of", {"parts": [{"verifier": "exact"}, {"verifier": "proof"}]})
    assert undecidable(easy, 1) is None and answer_is_question(easy)
    assert unfit_for(make_verifier("all_of", {"parts": [{"verifier": "exact"}]}), PROBLEM) is None


def test_a_batch_goes_to_each_part_as_far_as_it_is_open(file: Path) -> None:
    verifier = make_verifier("all_of", {"parts": [part(file, "a"), part(file, "b", "Batched")]})
    sizes = verifier._verifiers[1].sizes
    sizes.clear()
    texts = ["", "a=wrong", "b=wrong", "a=error", "b=raise"]
    judged = verifier.verify_batch([PROBLEM] * 5, texts)
    assert [str(j.outcome) for j in judged] == ["correct", "wrong", "wrong", "error", "error"]
    assert sizes == [4]
    assert judged == [verifier.verify(PROBLEM, t) for t in texts]


def test_a_vote_inside_a_composition_sees_all_samples() -> None:
    short = {"verifier": "exact", "options": {"pattern": "(so)"}}
    verifier = make_verifier("any_of", {"parts": [short, {"verifier": "majority"}]})
    problem = Problem(id="p", prompt="?", answer="so")
    texts = ["so \\boxed{1}", "so \\boxed{1}", "\\boxed{1}", "\\boxed{2}"]
    judged = verifier.verify_group(problem, texts)
    # Of the two that are left open one has two decided ones on its side.
    assert [str(j.outcome) for j in judged] == ["correct", "correct", "correct", "wrong"]


def test_async_parts_and_preparation(file: Path) -> None:
    verifier = make_verifier("all_of", {"parts": [part(file, "a", "Asynchronous"), part(file, "b", "Prepared")]})
    asked_of(verifier).clear()
    assert [verifier.verify(PROBLEM, t).outcome for t in ("", "a=wrong")] == ["correct", "wrong"]
    assert asked_of(verifier) == ["prepared", "a", "b", "a"]


def test_in_a_worker(file: Path) -> None:
    options = {"parts": [part(file, "a", "Batched"), {"verifier": "math", "options": {"last_number": True}}]}
    samples = [
        Sample(f"s{i}", "p", 0, 0, i, t, "stop", 1, 1.0, "", "policy")
        for i, t in enumerate(["c=42", "a=wrong", "c=41"])
    ]
    with VerifierPool(VerifySection(verifier="all_of", options=options, workers=1)) as pool:
        verdicts = pool.submit([PROBLEM], samples).result(60)
    assert [v.outcome for v in verdicts] == ["correct", "wrong", "wrong"]
    assert {(v.verifier, v.isolation) for v in verdicts} == {("all_of", "worker")}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "parts is empty"),
        ({"parts": [{"verifier": "mth"}]}, "unknown verifier 'mth'"),
        ({"parts": [{"verifier": "exact", "weigth": 2}]}, "option parts"),
        ({"parts": [{"verifier": "exact", "options": {"ignore": True}}]}, "no option 'ignore'"),
    ],
)
def test_bad_parts_are_refused_at_once(options: dict[str, Any], says: str) -> None:
    with pytest.raises(PluginError, match=says):
        make_verifier("all_of", options)


def test_bad_weights_are_refused() -> None:
    for weights in ([-1.0, 2.0], [0.0, 0.0], [float("inf")]):
        with pytest.raises(PluginError, match="weights"):
            make_verifier("weighted", {"parts": [{"verifier": "exact", "weight": w} for w in weights]})
    with pytest.raises(PluginError, match="threshold"):
        make_verifier("weighted", {"parts": [{"verifier": "exact"}], "threshold": 2.0})
