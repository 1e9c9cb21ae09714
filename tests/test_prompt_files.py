"""Files that reword prompts: their texts are sent as they are, so a template in one is refused."""

from __future__ import annotations

import json

import pytest

from flywheel import Problem, RecipeError
from flywheel.prompt_files import read_examples, read_paraphrases

PROBLEMS = [Problem("sum", "What is 1 + 1?", "2"), Problem("code", 'What does f"{answer}" give?', "x")]


def written(folder, *rows):
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("text", ["Tell me: {prompt}", "Is it {answer}?", "{solution}"])
def test_a_template_is_no_paraphrase(tmp_path, text):
    path = written(tmp_path, {"id": "sum", "paraphrases": ["One and one?", text]})
    with pytest.raises(RecipeError, match=r"line 1: .*\{(prompt|answer|solution)\}, which would be sent as it stands"):
        read_paraphrases(path, PROBLEMS)


def test_braces_that_a_problem_has_itself_stay(tmp_path):
    texts = ['Say what f"{answer}" is.', r"\frac{1}{2} {x} {\"a\": 1}"]
    path = written(
        tmp_path, {"prompt": PROBLEMS[1].prompt, "paraphrases": texts}, {"id": "gone", "paraphrases": ["{prompt}"]}
    )
    assert read_paraphrases(path, PROBLEMS) == {"code": texts}


def test_an_example_is_written_out(tmp_path):
    with pytest.raises(RecipeError, match="line 1: .* has {prompt}"):
        read_examples(written(tmp_path, {"prompt": "Q: {prompt}", "completion": "2"}))
    [shot] = read_examples(written(tmp_path, {"prompt": "{answer}?", "completion": "{prompt}"}))
    assert (shot["prompt"], shot["completion"]) == ("{answer}?", "{prompt}")
