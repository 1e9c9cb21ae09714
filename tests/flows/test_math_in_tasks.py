"""The `math` verifier inside Prefect tasks, which run in threads: through a pool, and called directly."""

from __future__ import annotations

import pytest

from flywheel import Problem, Sample
from flywheel.recipe import VerifySection
from flywheel.verifiers.math import Math
from flywheel.verify import VerifierPool

QUESTIONS = [("\\sqrt{50}", f"\\boxed{{{n}\\sqrt{{2}}}}", n == 5) for n in range(2, 8)] + [
    ("1/2", f"\\boxed{{\\int_0^1 x^{n}\\,dx}}", n == 1) for n in range(1, 3)
]


@pytest.mark.slow
def test_tasks_judge_as_one_would(prefect_api: str) -> None:
    from prefect import flow, task
    from prefect.cache_policies import NO_CACHE

    with VerifierPool(VerifySection(verifier="math", workers=2)) as pool:

        @task(cache_policy=NO_CACHE)
        def through_the_pool(gold: str, completion: str) -> bool:
            sample = Sample("s", "p", 0, 0, 0, completion, "stop", 1, 1.0, "", "policy")
            return pool.submit([Problem("p", "", gold)], [sample]).result(60)[0].outcome == "correct"

        @task(cache_policy=NO_CACHE)
        def directly(gold: str, completion: str) -> bool:
            return Math().verify(Problem("p", "", gold), completion).outcome == "correct"

        @flow
        def judge_all() -> list[list[bool]]:
            futures = [[t.submit(g, c) for g, c, _ in QUESTIONS] for t in (through_the_pool, directly)]
            return [[future.result() for future in row] for row in futures]

        assert judge_all() == [[right for *_, right in QUESTIONS]] * 2
