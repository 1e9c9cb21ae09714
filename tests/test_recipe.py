"""The recipe: shipped files, overrides, refusals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from flywheel import recipe as rc
from flywheel.errors import RecipeError
from flywheel.prompts import conversation
from flywheel.types import Problem


@pytest.mark.parametrize("name", rc.shipped_recipes())
def test_shipped_recipes_are_valid_and_named_after_their_file(name):
    assert rc.load_recipe(name).name == name


def test_every_field_is_documented():
    def walk(model: type[BaseModel]) -> list[str]:
        bare = [f"{model.__name__}.{name}" for name, info in model.model_fields.items() if not info.description]
        for info in model.model_fields.values():
            for part in [info.annotation, *getattr(info.annotation, "__args__", ())]:
                if isinstance(part, type) and issubclass(part, BaseModel):
                    bare += walk(part)
        return bare

    assert walk(rc.Recipe) == []


def test_overrides_are_deep_merged_and_typed():
    recipe = rc.load_recipe(
        "toy", ["sampling.k=2", "train.lora.rank=4", "model.base=org/name", "filter.max_tokens=none"]
    )
    assert (recipe.sampling.k, recipe.sampling.max_tokens) == (2, 96)
    assert recipe.train.lora is not None and recipe.train.lora.rank == 4
    assert recipe.model.base == "org/name"
    assert recipe.filter.max_tokens is None


def test_a_bare_word_is_what_its_field_takes():
    recipe = rc.load_recipe(
        "toy",
        [
            "filter.by=none",
            "filter.dedup=none",
            "model.system=none",
            "problems.config=2024",
            "problems.path=7",
            "seed=3",
        ],
    )
    assert (recipe.filter.by, recipe.filter.dedup, recipe.model.system) == ("none", "none", None)
    assert (recipe.problems.config, recipe.problems.path, recipe.seed) == ("2024", "7", 3)
    assert (
        rc.load_recipe("toy", ["train.lora=none", "verify.options.tolerance=none"]).verify.options["tolerance"] is None
    )


@pytest.mark.parametrize(
    "braces",
    [
        r"\frac{1}{2}",
        r"\boxed{answer}",
        r"\frac{abc}{answer}",
        "x_{max}^{min}",
        '{"answer": 1}',
        "{ answer }",
        "{}",
        "{0}",
    ],
)
def test_braces_that_are_no_placeholder_stay(braces):
    template = f"{{prompt}} {braces}"
    raw = rc.read_recipe("toy")
    recipe = rc.validate({**raw, "sampling": {**raw["sampling"], "variants": [template]}})
    assert conversation(Problem("p", "1 {answer}", "2"), None, recipe.sampling.variants[0]) == [
        {"role": "user", "content": f"1 {{answer}} {braces}"}
    ]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["train.epoch=1"], "unknown field train.epoch; did you mean 'epochs'?"),
        (["policy.vllm.tensor=2"], "policy.vllm.tensor"),
        (["sampling.k=0"], "sampling.k = 0"),
        (["sampling.k=many"], "sampling.k = 'many'"),
        (["mix.human=0.7", "mix.base=0.5"], "human + base is 1.2"),
        (["sampling.variants=['no place']"], "{prompt}"),
        (["train.backend=sft"], "only work together"),
        (["evaluate.temperature=nan"], "evaluate.temperature"),
        (["policy.name=openai", "train.backend=sft", "model.base=x/y"], "policy.openai.reload_command"),
        (["k"], "section.field=value"),
        (["name=../../etc"], "name"),
        (["sampling..k=2"], "section.field=value"),
        ([".k=2"], "section.field=value"),
        (["sampling=3"], "sampling = 3: this is a section; set its fields: k, problems"),
        (["sampling.extra=[{generation=-1}]"], "sampling.extra.0.share is missing"),
        (["seed=none"], "seed = None: input should be a valid integer"),
        (["filter.by=nnoe"], "filter.by = 'nnoe': input should be 'verdict', 'none' or 'random'"),
        (["problems.template=Solve it."], "'Solve it.' asks the same of every problem; put {prompt} where"),
        (["problems.template=Solve {{x}}."], "asks the same of every problem"),
        (
            ["sampling.variants=['{prompt} {answer}']"],
            "has {answer}, which would be sent as it stands: only {prompt} is",
        ),
        (["hints.template={prompt} {anser} {answer}"], "has {anser}, which would be sent as it stands"),
        (["correction.template=It is {answer}."], "has {answer}, which would be sent as it stands"),
        (["train.privileged.template={prompt} {answer} {proof}"], "has {proof}, which would be sent as it stands"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(overrides, words):
    with pytest.raises(RecipeError) as caught:
        rc.load_recipe("toy", overrides)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_verifier_begins_without_the_options_of_the_one_it_replaces(tmp_path):
    assert rc.load_recipe("demo").verify.options == {"last_number": True}
    assert rc.load_recipe("demo", ["verify.verifier=math"]).verify.options == {"last_number": True}
    judged = rc.load_recipe("demo", ["verify.options.model=x", "verify.verifier=reward_model", "verify.held_out=math"])
    assert judged.verify.options == {"model": "x"} and judged.verify.held_out_options == {}
    (tmp_path / "mine.toml").write_text('extends = "demo"\n[verify]\nverifier = "exact"\n')
    assert rc.load_recipe(tmp_path / "mine.toml").verify.options == {}


def test_another_generator_begins_without_the_parameters_of_the_one_it_replaces():
    assert rc.load_recipe("demo").problems.parameters
    assert rc.load_recipe("demo", ["problems.name=leg_counting"]).problems.parameters == {}
    changed = rc.load_recipe("demo", ["problems.parameters.max_terms=3", "problems.name=leg_counting"])
    assert changed.problems.parameters == {"max_terms": 3}
    assert len(rc.load_recipe("demo", ["problems.parameters.max_terms=3"]).problems.parameters) > 1


def test_an_unknown_recipe_is_told_the_nearest_one():
    with pytest.raises(RecipeError, match=r"no recipe 'dmo': did you mean 'demo'\?.*flywheel recipes"):
        rc.load_recipe("dmo")


def test_a_file_that_is_not_toml_is_refused(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("[model\nbase=")
    with pytest.raises(RecipeError, match="not valid TOML"):
        rc.load_recipe(path)


def test_knobs_stand_in_no_key():
    a = rc.load_recipe("toy", ["verify.workers=7", "policy.vllm.memory_share=0.5", "train.micro_batch=1"])
    b = rc.load_recipe("toy")
    assert a != b
    assert a.key() == b.key()
    assert rc.load_recipe("toy", ["verify.deadline_seconds=1"]).key() != b.key()


_json = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda c: st.dictionaries(st.sampled_from("abc"), c, max_size=3),
    max_leaves=8,
)
_tables = st.dictionaries(st.sampled_from("abc"), _json, max_size=3)


@given(_tables, _tables)
def test_deep_merge_takes_the_change_and_keeps_the_rest(raw, changes):
    merged = rc.deep_merge(raw, changes)
    assert set(merged) == set(raw) | set(changes)
    assert rc.deep_merge(merged, changes) == merged
    assert rc.deep_merge(raw, {}) == raw


@given(_tables, _tables)
def test_differing_fields_is_empty_only_where_nothing_but_empty_values_differs(a, b):
    def dropped_none(x):
        inner = {k: dropped_none(v) if isinstance(v, dict) else v for k, v in x.items()}
        return {k: v for k, v in inner.items() if v is not None and v != {}}

    if not rc.differing_fields(a, b):
        assert dropped_none(a) == dropped_none(b)
    assert rc.differing_fields(a, a) == []
