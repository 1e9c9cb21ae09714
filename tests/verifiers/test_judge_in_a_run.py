"""The judge through workers: its identity, its options, its time, and a real small model."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from flywheel import PluginError, Sample
from flywheel.identity import verifier_identity
from flywheel.judging import seconds_left, time_limit
from flywheel.plugins import make_verifier
from flywheel.protocols import traits
from flywheel.recipe import VerifySection
from flywheel.verifiers.judge import BROAD_ALTERNATIVES, Judge
from flywheel.verify import VerifierPool
from tests.verifiers.judge_server import (
    BAD,
    FAIR,
    GOOD,
    PROBLEM,
    RUBRIC,
    Asked,
    Server,
    honest,
    judge,
    outcomes,
)


def samples(*texts: str) -> list[Sample]:
    return [Sample(f"s{i}", "p", 0, 0, i, t, "stop", 1, 1.0, "", "policy") for i, t in enumerate(texts)]


def pool(server: Server, **options: Any) -> VerifierPool:
    options = {"rubric": RUBRIC, "model": "judge-1", "endpoint": server.url, **options}
    return VerifierPool(VerifySection(verifier="judge", options=options, workers=1, deadline_seconds=30.0))


def test_through_a_worker(server: Server) -> None:
    with pool(server) as judging:
        verdicts = judging.submit([PROBLEM], samples(GOOD, BAD, FAIR, "\ud800")).result(60)
    assert [v.outcome for v in verdicts] == ["correct", "wrong", "wrong", "wrong"]
    assert {(v.verifier, v.version, v.isolation) for v in verdicts} == {("judge", "2", "worker")}


def test_an_endpoint_that_fails_is_an_error_with_its_type(server: Server) -> None:
    server.status = 422
    with pool(server, engine_options={"retries": 0}) as judging:
        verdicts = judging.submit([PROBLEM], samples(GOOD, BAD)).result(60)
    assert [v.outcome for v in verdicts] == ["error", "error"]
    assert verdicts[0].detail.startswith("EndpointError: ")


def test_identity_is_rubric_and_model(server: Server, tmp_path: Path) -> None:
    rubric = tmp_path / "rubric.md"
    rubric.write_text(RUBRIC)
    options = {"rubric_file": str(rubric), "model": "judge-1", "endpoint": server.url}
    first = verifier_identity("judge", options)
    assert first["identity"]["model"] == {"endpoint": server.url, "model": "judge-1"}
    rubric.write_text("Anything goes.")
    assert verifier_identity("judge", options)["identity"]["rubric"] != first["identity"]["rubric"]
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    own = {"rubric": RUBRIC, "model": str(model)}
    before = verifier_identity("judge", own)
    (model / "config.json").write_text('{"x": 1}')
    assert verifier_identity("judge", own)["identity"] != before["identity"]


def test_a_model_for_an_engine_of_its_own_that_is_not_there_is_lacking(server: Server, tmp_path: Path) -> None:
    assert judge(server).lacks() is None
    missing = str(tmp_path / "nowhere")
    assert missing in (Judge(rubric=RUBRIC, model=missing).lacks() or "")


def test_only_a_judge_with_an_engine_of_its_own_is_exclusive(server: Server) -> None:
    assert not traits(judge(server)).exclusive
    assert traits(Judge(rubric=RUBRIC, model="some/model")).exclusive


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"model": "m"}, "give one of rubric and rubric_file"),
        ({"rubric": "r", "rubric_file": "f", "model": "m"}, "give one of rubric and rubric_file"),
        ({"rubric_file": "/nowhere/rubric", "model": "m"}, "cannot be read"),
        ({"rubric": "r"}, "name the judging model"),
        ({"rubric": "r", "model": "m", "scale": [5, 5]}, "scale"),
        ({"rubric": "r", "model": "m", "threshold": 7}, "threshold"),
        ({"rubric": "r", "model": "m", "mode": "rank"}, "mode = 'rank'"),
        ({"rubric": "r", "model": "m", "concurrency": 0}, "concurrency"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(PluginError, match=says):
        make_verifier("judge", options)


@pytest.mark.slow
def test_a_real_small_model_goes_through() -> None:
    """Too small to judge well: what counts is that it comes to a verdict, which its probabilities give."""
    options = {
        **{"rubric": RUBRIC, "model": "smollm2-135m-instruct", "engine": "transformers", "max_tokens": 32},
        **{"engine_options": {"device": "cpu"}, "alternatives": []},
    }
    section = VerifySection(verifier="judge", options=options, workers=1, deadline_seconds=120.0)
    with VerifierPool(section) as judging:
        verdicts = judging.submit([PROBLEM], samples(GOOD, BAD, "")).result(500)
    assert verdicts[2].outcome == "no_answer"
    known = ("rated", "inconsistent")
    assert all(v.detail.startswith(known) for v in verdicts[:2]), [v.detail for v in verdicts]


# -- time ------------------------------------------------------------------------------------------


def test_what_is_not_answered_in_time_is_an_error_that_names_the_deadline(server: Server) -> None:
    slow = threading.Event()

    def model(asked: Asked) -> str:
        if asked.sections["ANSWER"] == BAD:
            slow.wait(20.0)
        return honest(asked)

    server.model = model
    asked = judge(server, alternatives=[])
    asked.prepare()
    with time_limit(2.0):
        judged = asked.verify_batch([PROBLEM] * 2, [GOOD, BAD])
        assert seconds_left() > 0.0
    slow.set()
    assert outcomes(judged) == ["correct", "error"]
    assert "verify.deadline_seconds" in judged[1].detail and "max_tokens" in judged[1].detail
    # The connection is as good as before: nothing of the call that was cut short comes up in the next.
    assert outcomes(asked.verify_batch([PROBLEM] * 2, [BAD, GOOD])) == ["wrong", "correct"]


def test_alternatives_that_there_was_no_time_for_are_tried_again(server: Server) -> None:
    slow = threading.Event()

    def model(asked: Asked) -> str:
        if asked.sections["ANSWER"] in BROAD_ALTERNATIVES:
            slow.wait(20.0)
            return f"{asked.keyword} 10"
        return honest(asked)

    server.model = model
    gullible = judge(server)
    gullible.prepare()
    with time_limit(1.0):
        unknown = gullible.verify(PROBLEM, GOOD)
    assert unknown.outcome == "error" and "no time to try the broad alternatives" in unknown.detail
    slow.set()
    known = gullible.verify(PROBLEM, GOOD)
    assert known.outcome == "error" and "lets" in known.detail and "pass here" in known.detail


def test_a_completion_that_is_too_long_is_not_shown_and_the_setting_is_named(server: Server) -> None:
    judged = judge(server).verify(PROBLEM, "z" * 1_000_000)
    assert judged.outcome == "no_answer" and "1000000 characters" in judged.detail
    assert "max_characters = 20000" in judged.detail and server.bodies == []


def test_a_prompt_that_does_not_fit_the_window_is_an_error_that_says_what_to_lower(server: Server) -> None:
    server.reason = "error"
    judged = judge(server).verify(PROBLEM, GOOD)
    assert judged.outcome == "error" and "lower max_characters" in judged.detail
