"""The chart of accuracy by a field: a curve a generation, its values in their order."""

from flywheel.report.by_field import by_field
from flywheel.report.chart import has_values
from flywheel.types import Generation


def generation(index, rates, status="accepted"):
    """A generation that was measured at the lengths of `rates`; None says that no field was asked for."""
    by = rates and {
        "field": "digits",
        "values": [
            {"value": value, "n_problems": 9, "pass_1": rate, "interval": [rate / 2, rate]}
            for value, rate in rates.items()
        ],
    }
    return Generation(index, f"rounds/{index}", max(0, index - 1), status, {"dev": {"by": by}})


def test_each_generation_has_a_curve_over_the_fields_values():
    chart = by_field([generation(0, {6: 1.0, 7: 0.5}, "base"), generation(1, {6: 1.0, 7: 0.9}, "rejected")])
    assert (chart.x, chart.x_title, chart.title) == ([6, 7], "digits", "pass@1 on dev, by digits")
    assert [(s.name, s.values) for s in chart.series] == [
        ("base", [1.0, 0.5]),
        ("generation 1 (rejected)", [1.0, 0.9]),
    ]
    assert chart.series[0].low == [0.5, 0.25] and has_values(chart)
    assert chart.rows()[1] == ["7", "50.0 % [25.0 %, 50.0 %]", "90.0 % [45.0 %, 90.0 %]"]


def test_only_the_first_and_the_last_stand_out():
    chart = by_field([generation(i, {6: 0.5}) for i in range(4)])
    assert [s.quiet for s in chart.series] == [False, True, True, False]
    assert len(chart.colours) == 4


def test_a_value_that_a_generation_was_not_measured_at_is_a_gap():
    chart = by_field([generation(0, {6: 1.0}), generation(1, {6: 1.0, 7: 0.9})])
    assert chart.series[0].values == [1.0, None]
    assert chart.series[0].low == [0.5, None]


def test_a_run_that_names_no_field_has_no_chart():
    assert by_field([generation(0, None), Generation(1, "rounds/1", 0, "accepted", {"dev": {}})]) is None
