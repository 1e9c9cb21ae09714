"""What a run cost: every stage that spends tokens is counted under its purpose."""

from flywheel.manifest import Entry
from flywheel.report.cost import PURPOSES, tokens


def entry(**info: object) -> Entry:
    return Entry(key="k", ingredients={}, files={}, info=info)


def test_searches_and_written_problems_are_spent_on_training_samples() -> None:
    done = {
        "propose": entry(tokens=100),
        "sweep": entry(tokens=20),
        "plan": entry(),
        "sample": entry(tokens=3),
        "train": entry(tokens=5000),
        "evaluate": entry(tokens=700),
        "gate": entry(tokens=40),
    }
    assert {purpose: tokens(done, purpose) for purpose in PURPOSES} == {
        "sampled": 123,
        "measured": 740,
        "trained": 5000,
    }


def test_a_gate_without_mixtures_spends_nothing_and_what_has_not_run_is_unknown() -> None:
    assert tokens({"evaluate": entry(tokens=7), "gate": entry(accepted=True)}, "measured") == 7
    assert tokens({"propose": entry(value=7)}, "sampled") is None
    assert tokens({}, "trained") is None
