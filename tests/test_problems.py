"""Problems come in whole, say what is wrong with them in one line, and are split without a leak."""

from __future__ import annotations

import gzip
import json
import random
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flywheel import Problem, ProblemError, Split
from flywheel.near_copies import near_copy_groups
from flywheel.problems import ProblemSet, load_problems
from flywheel.recipe import Recipe

ANIMALS = "ant bee cat dog elk fox gnu hen ibis jay kite lark mole newt owl".split()  # noqa: SIM905


def recipe(ood: list[dict[str, Any]] | None = None, **problems: Any) -> Recipe:
    return Recipe.model_validate({"problems": {"dev": 2, "test": 2} | problems, "ood": ood or []})


def word_problem(i: int) -> dict[str, Any]:
    """A prompt that shares few n-grams with others of its kind."""
    words = random.Random(i).choices(ANIMALS, k=24)
    return {"id": f"w{i}", "prompt": " ".join(words) + "?", "answer": str(i)}


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def from_rows(tmp_path: Path, rows: list[Any], **problems: Any) -> ProblemSet:
    path = write(tmp_path / "problems.jsonl", rows)
    return load_problems(recipe(source="file", path=str(path), **problems))


def by_id(found: ProblemSet) -> dict[str, Problem]:
    return {p.id: p for p in found.problems}


# -- reading ----------------------------------------------------------------------------------------


def test_files_of_all_kinds_give_the_same_problems(tmp_path: Path) -> None:
    rows = [word_problem(i) for i in range(10)]
    jsonl = write(tmp_path / "a.jsonl", rows)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(jsonl.read_bytes()))
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "b.jsonl").write_bytes(b"\xef\xbb\xbf" + jsonl.read_bytes())  # as editors on Windows save it
    pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    names = ["a.jsonl", "a.jsonl.gz", "a.json", "a.parquet", "b.jsonl"]
    found = [load_problems(recipe(source="file", path=str(tmp_path / name))).problems for name in names]
    assert len(found[0]) == 10
    assert all(other == found[0] for other in found[1:])


def test_columns_patterns_and_templates(tmp_path: Path) -> None:
    rows = [
        {"q": word_problem(i)["prompt"], "a": f"so\n#### {i},000", "unit": "kg", "solution": "easily"} for i in range(9)
    ]
    found = from_rows(
        tmp_path,
        rows,
        columns={"prompt": "q", "answer": "a"},
        answer_pattern=r"#### (.+)",
        template="In {unit}: {prompt}\nPut it in \\boxed{{}}.",
    )
    first = found.problems[0]
    assert first.answer == "0,000"
    assert first.prompt == f"In kg: {rows[0]['q']}\nPut it in \\boxed{{}}."
    assert (first.solution, first.meta) == ("easily", {"unit": "kg", "prompt": rows[0]["q"]})  # as it was
    assert len({p.id for p in found.problems}) == 9


def test_conversations(tmp_path: Path) -> None:
    rows = [
        {
            "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": word_problem(i)["prompt"]}],
            "answer": i,
        }
        for i in range(9)
    ]
    first = from_rows(tmp_path, rows).problems[0]
    assert first.messages is not None and first.messages[0]["role"] == "system"
    assert (first.prompt, first.answer) == (word_problem(0)["prompt"], "0")


def test_several_files_count_and_shuffle(tmp_path: Path) -> None:
    paths = [str(write(tmp_path / f"{k}.jsonl", [word_problem(20 * k + i) for i in range(20)])) for k in range(2)]
    top = load_problems(recipe(source="file", path=paths, count=25))
    assert [p.id for p in top.problems] == [f"w{i}" for i in range(25)]
    drawn = load_problems(recipe(source="file", path=paths, count=25, shuffle=True))
    assert len(drawn.problems) == 25 and drawn.problems != top.problems
    assert drawn == load_problems(recipe(source="file", path=paths, count=25, shuffle=True))


def test_reasoning_gym_generates_as_many_distinct_problems_as_asked_for() -> None:
    asked: dict[str, Any] = {
        "name": "chain_sum",
        "parameters": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1},
    }
    found = load_problems(recipe(count=100, **asked))
    assert len({p.prompt for p in found.problems}) == len(found.problems) == 100
    assert found.notes["duplicates"] > 0
    assert found.problems[0].meta["task"] == "chain_sum"
    assert json.loads(json.dumps(found.problems[0].meta)) == found.problems[0].meta
    assert [p.id for p in load_problems(recipe(count=50, **asked)).problems] == [p.id for p in found.problems][:50]


def test_datasets_from_local_folders(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [word_problem(i) for i in range(10)]
    saved, files = tmp_path / "saved", tmp_path / "files"
    datasets.DatasetDict({"train": datasets.Dataset.from_list(rows)}).save_to_disk(str(saved))
    files.mkdir()
    write(files / "train.jsonl", rows)
    found = [load_problems(recipe(source="datasets", name=str(folder))).problems for folder in (saved, files)]
    assert found[0] == found[1] and len(found[0]) == 10
    with pytest.raises(ProblemError, match="split 'tset'.*has the splits train"):
        load_problems(recipe(source="datasets", name=str(saved), hub_split="tset"))


# -- what is refused --------------------------------------------------------------------------------

GOOD = [word_problem(i) for i in range(8)]


@pytest.mark.parametrize(
    ("rows", "settings", "says"),
    [
        ([], {}, "is empty"),
        ([*GOOD, {"id": "x", "answer": "1"}], {}, "line 9 lacks the column 'prompt'; it has id, answer"),
        ([*GOOD, {"id": "x", "prompt": "?"}], {}, "line 9 lacks the column 'answer'; it has id, prompt"),
        (GOOD, {"columns": {"prompt": "question"}}, "line 1 lacks the column 'question'"),
        (GOOD, {"columns": {"promt": "prompt"}}, "problems.columns maps promt; our fields are id, prompt"),
        ([*GOOD, {"id": "w3", "prompt": "new", "answer": "1"}], {}, "'w3' stands twice: .* line 4 and .* line 9"),
        ([*GOOD, {"id": "x", "prompt": "?", "answer": "  "}], {}, "line 9 has no answer"),
        ([*GOOD, {"id": "x", "prompt": "?", "answer": None}], {}, "line 9 has no answer"),
        (GOOD, {"answer_pattern": "#### (.+)"}, "line 1 has no answer: answer_pattern '#### "),
        (GOOD, {"answer_pattern": "####"}, "has no group"),
        (GOOD, {"answer_pattern": "(("}, "is no regular expression"),
        ([*GOOD, {"id": "x", "prompt": 7, "answer": "1"}], {}, "line 9: the prompt in column 'prompt' is 7"),
        ([*GOOD, ["x"]], {}, r"line 9 holds \"\['x'\]\"; every problem must be a JSON object"),
        ([*GOOD, {"messages": [{"role": "user"}], "answer": 1}], {}, "line 9: a message is"),
        (
            GOOD,
            {"template": "{prompt} {subject}"},
            r"problems.template has {subject}, and .* line 1 has only id, prompt",
        ),
        (GOOD, {"dev": 4, "test": 4}, "gives 8 problems; dev = 4 and test = 4 leave none to train on"),
    ],
)
def test_bad_files_get_one_line_that_names_the_place(
    tmp_path: Path, rows: list[Any], settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(ProblemError, match=says) as caught:
        from_rows(tmp_path, rows, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b'{"prompt": "?", "answer": "1"}\n{"id": \n', "a.jsonl line 2 is not JSON"),
        ("a.jsonl", b'{"id": "\xff"}\n', "is not UTF-8"),
        ("a.jsonl", b"[" * 100_000, "line 1 is not JSON"),
        ("a.json", b'{"prompt": "?"}', "must be a list of objects"),
        ("a.jsonl.gz", b"plain", "cannot be read"),
        ("a.jsonl.gz", gzip.compress(b'{"prompt": "?", "answer": "1"}\n' * 999)[:-20], "cannot be read"),
        ("a.parquet", b"PAR1 no", "is not Parquet"),
        ("a.csv", b"prompt,answer\n", r"is none of .jsonl, .jsonl.gz, .json, .parquet"),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ProblemError, match=says) as caught:
        load_problems(recipe(source="file", path=str(tmp_path / name)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"source": "file"}, "needs problems.path"),
        ({"source": "file", "path": "nowhere.jsonl"}, "problem file nowhere.jsonl is missing"),
        ({"name": "chain_sums", "count": 9}, "has no task 'chain_sums'; near: chain_sum"),
        ({"name": "chain_sum"}, "set problems.count"),
        ({"name": "chain_sum", "count": 9, "parameters": {"min_term": 2}}, "does not take the parameters"),
        ({"name": "chain_sum", "count": 9, "parameters": {"min_terms": -2}}, "must be positive"),
        ({"name": "chain_sum", "count": 9, "parameters": {"seed": 2}}, "use problems.seed"),
        ({"source": "datasets", "name": "openai/gsm8k", "config": "main"}, "no connection to the hub"),
        ({"source": "datasets", "name": "./nowhere"}, "there is no folder ./nowhere"),
    ],
)
def test_bad_sources(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ProblemError, match=says) as caught:
        load_problems(recipe(**settings))
    assert "\n" not in str(caught.value)


# -- split ------------------------------------------------------------------------------------------


def test_counts_are_met_and_every_problem_has_one_part(tmp_path: Path) -> None:
    found = from_rows(tmp_path, [word_problem(i) for i in range(100)], dev=17, test=23)
    assert {part: found.notes[part] for part in Split} == {"train": 60, "dev": 17, "test": 23}
    assert sorted(p.split for p in found.problems) == ["dev"] * 17 + ["test"] * 23 + ["train"] * 60


def test_what_was_trained_on_is_not_held_out_when_the_file_grows(tmp_path: Path) -> None:
    small = by_id(from_rows(tmp_path, [word_problem(i) for i in range(100)], dev=20, test=20))
    large = by_id(from_rows(tmp_path, [word_problem(i) for i in reversed(range(300))], dev=20, test=20))
    assert all(large[name].split == "train" for name, p in small.items() if p.split == "train")
    assert sum(p.split != "train" for p in large.values()) == 40


def test_identical_prompts_are_joined_and_counted(tmp_path: Path) -> None:
    rows = [word_problem(i) for i in range(20)]
    again = [{**rows[3], "id": "again"}, {**rows[4], "id": "differs", "answer": "other"}]
    found = from_rows(tmp_path, rows + again)
    assert len(found.problems) == 20
    assert (found.notes["duplicates"], found.notes["conflicting"]) == (2, 1)
    assert by_id(found)["w4"].answer == "4"


def near_copy_of(row: dict[str, Any], **changed: Any) -> dict[str, Any]:
    first, _, rest = str(row["prompt"]).partition(" ")
    return {**row, "prompt": f"{first.upper()}, {rest} Please!", "id": f"{row['id']}-copy", **changed}


@pytest.mark.parametrize("seed", range(5))
def test_near_copies_share_a_part(tmp_path: Path, seed: int) -> None:
    rows = [word_problem(1000 * seed + i) for i in range(60)]
    copies = [near_copy_of(r) for r in rows[::3]]
    found = from_rows(tmp_path, rows + copies, dev=15, test=25)
    parts = {p.id: p.split for p in found.problems}
    assert all(parts[c["id"]] == parts[c["id"].removesuffix("-copy")] for c in copies)
    assert (found.notes["near_copies"], found.notes["near_copy_groups"]) == (40, 20)
    assert (found.notes["dev"], found.notes["test"]) == (15, 25)


def test_problems_that_are_all_near_copies_leave_nothing_held_out(tmp_path: Path) -> None:
    rows = [{**word_problem(1), "id": str(i)} for i in range(4)]
    rows = [{**r, "prompt": f"{r['prompt']} {'!' * i}"} for i, r in enumerate(rows)]
    with pytest.raises(ProblemError, match="near-copies join the 4 problems into 1 groups.*Raise problems.near_copy"):
        from_rows(tmp_path, rows, dev=1, test=1)


def test_ood_sets_stand_apart_and_lose_what_the_recipe_trains_on(tmp_path: Path) -> None:
    rows = [word_problem(i) for i in range(30)]
    other = [word_problem(i) for i in range(500, 510)] + [near_copy_of(rows[0])]
    path = write(tmp_path / "other.jsonl", other)
    ood = [{"label": "other", "source": "file", "path": str(path)}]
    source: dict[str, Any] = {"source": "file", "path": str(write(tmp_path / "own.jsonl", rows))}
    found = load_problems(recipe(ood, **source))
    apart = [p for p in found.problems if p.ood]
    assert len(apart) == found.notes["ood"] == 10 and found.notes["ood_left_out"] == 1
    assert {(p.ood, p.split) for p in apart} == {("other", "dev")}
    assert len(by_id(found)) == len(found.problems) == 40
    write(path, [near_copy_of(r) for r in rows[:3]])
    with pytest.raises(ProblemError, match="ood set 'other'"):
        load_problems(recipe(ood, **source))


def test_arithmetic_behind_one_template_is_not_one_problem() -> None:
    asked: dict[str, Any] = {
        "name": "chain_sum",
        "parameters": {"min_terms": 2, "max_terms": 3, "min_digits": 1, "max_digits": 2},
    }
    found = load_problems(recipe(count=400, dev=100, test=150, **asked))
    assert {part: found.notes[part] for part in Split} == {"train": 150, "dev": 100, "test": 150}
    assert found.notes["near_copies"] == 0


# -- near-copies ------------------------------------------------------------------------------------


def groups(texts: list[str], share: float = 0.8, n: int = 8, template_share: float = 0.05) -> list[list[int]]:
    return near_copy_groups(texts, share=share, n=n, template_share=template_share)


TEMPLATE = "State the final answer to the following arithmetic problem and say nothing else at all:"


def test_short_problems_are_compared_whole() -> None:
    texts = [f"{TEMPLATE} {a} + 5 - 3 =" for a in range(200)] + [f"{TEMPLATE.lower()}  7+5-3 = ?"]
    assert [g for g in groups(texts) if len(g) > 1] == [[7, 200]]
    assert len(groups(["12 + 5 - 3 =", "12 - 5 + 3 =", "12 + 5 - 3"])) == 3


def test_a_long_template_does_not_make_near_copies_and_does_not_hide_them() -> None:
    long = " ".join([TEMPLATE] * 5)
    texts = [f"{long} {word_problem(i)['prompt']}" for i in range(100)]
    texts.append(f"{long} {near_copy_of(word_problem(42))['prompt']}")
    assert [g for g in groups(texts) if len(g) > 1] == [[42, 100]]


def test_a_problem_inside_a_longer_one_is_a_near_copy() -> None:
    inner = str(word_problem(1)["prompt"])
    assert groups([inner, f"{word_problem(2)['prompt']} {inner} {word_problem(3)['prompt']}"]) == [[0, 1]]


def test_a_share_of_one_joins_equal_texts_only() -> None:
    inner = str(word_problem(1)["prompt"])
    assert groups([inner, inner + " or so", inner.upper()], share=1.0) == [[0, 2], [1]]


def test_symbols_alone_are_compared_as_they_are() -> None:
    assert groups(["?", "!", "?", ""]) == [[0, 2], [1], [3]]


@settings(max_examples=60, deadline=None)
@example(spoken=[list("aabaca"), list("aabacb")], share=0.8, n=2)  # 4 of 5, where 1 - .8 is a little less than .2
@given(
    st.lists(st.lists(st.sampled_from("abcdef"), min_size=0, max_size=14), max_size=9),
    st.sampled_from([0.3, 0.5, 0.8]),
    st.integers(1, 4),
)
def test_the_index_finds_what_comparing_all_pairs_finds(spoken: list[list[str]], share: float, n: int) -> None:
    texts = [" ".join(words) for words in spoken]
    found = groups(texts, share=share, n=n, template_share=1.0)
    own = [
        {tuple(words[i : i + n]) for i in range(len(words) - n + 1)} if len(words) > n else set() for words in spoken
    ]
    root = list(range(len(texts)))
    for i in range(len(texts)):
        for j in range(i):
            small = min(len(own[i]), len(own[j]))
            if texts[i] == texts[j] or (small and len(own[i] & own[j]) >= share * small):
                a, b = root[i], root[j]
                root = [a if r == b else r for r in root]
    expected: dict[int, list[int]] = {}
    for i, r in enumerate(root):
        expected.setdefault(r, []).append(i)
    assert sorted(found) == sorted(expected.values())


def test_thousands_of_word_problems_take_seconds() -> None:
    texts = [str(word_problem(i)["prompt"]) * 2 for i in range(5000)]
    begun = time.monotonic()
    assert len(groups(texts)) == 5000
    assert time.monotonic() - begun < 15
