"""Files that reword prompts: paraphrases of problems, and worked examples to show before them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flywheel.errors import ProblemError, RecipeError
from flywheel.problem_sources import Row, read_source
from flywheel.prompts import Shot
from flywheel.recipe import ProblemSource
from flywheel.types import Problem


def read_paraphrases(path: str, problems: Sequence[Problem]) -> dict[str, list[str]]:
    """Problem id → its paraphrases, for those of `problems` that a file rewords.

    A row names its problem by `id` or by `prompt`. Raises RecipeError where the file cannot be read, a row
    lacks its texts, or no problem is reworded.
    """
    by_prompt = {p.prompt: p.id for p in problems}
    prompts = {p.id: p.prompt for p in problems}
    found: dict[str, list[str]] = {}
    for row in _rows(path, "sampling.paraphrases"):
        texts = row.fields.get("paraphrases")
        if not isinstance(texts, list) or not texts or not all(isinstance(t, str) and t.strip() for t in texts):
            raise RecipeError(f"{row.where}: paraphrases is {str(texts)[:60]!r}; it must be a list of texts")
        problem_id = row.fields.get("id")
        if problem_id is None:
            problem_id = by_prompt.get(_text(row, "prompt"))
        if problem_id in prompts:
            _refuse_templates(row, texts, said=prompts[problem_id])
            found.setdefault(str(problem_id), []).extend(texts)
    if not found:
        raise RecipeError(
            f"sampling.paraphrases = {path!r} rewords none of the {len(problems)} train problems; its rows name a "
            "problem by `id` or by `prompt`, as they stand in the run's problems.parquet"
        )
    return found


def read_examples(path: str) -> list[Shot]:
    """The worked examples of a file: `prompt` and `completion` of each row. Raises RecipeError where one lacks them."""
    shots = []
    for row in _rows(path, "sampling.few_shot.path"):
        shots.append(Shot(id="", prompt=_text(row, "prompt"), completion=_text(row, "completion")))
        _refuse_templates(row, [shots[-1]["prompt"]], names=("{prompt}",))
    return shots


def _refuse_templates(
    row: Row, texts: Sequence[str], *, names: Sequence[str] = ("{prompt}", "{answer}", "{solution}"), said: str = ""
) -> None:
    """Raise where a text that is sent as it is has a placeholder which is not among the words of its problem."""
    for text in texts:
        held = [name for name in names if name in text and name not in said]
        if held:
            raise RecipeError(
                f"{row.where}: {text[:60]!r} has {held[0]}, which would be sent as it stands; write the problem out; "
                "templates go into sampling.variants"
            )


def _rows(path: str, setting: str) -> list[Row]:
    if not Path(path).is_file():
        raise RecipeError(f"{setting} = {path!r}: there is no such file; it is looked for from the working directory")
    try:
        return list(read_source(ProblemSource(source="file", path=path)))
    except ProblemError as error:
        raise RecipeError(f"{setting}: {error}") from None


def _text(row: Row, column: str) -> str:
    fields: Mapping[str, Any] = row.fields
    value = fields.get(column)
    if not isinstance(value, str) or not value.strip():
        raise RecipeError(f"{row.where}: {column} is {str(value)[:60]!r}; it must be text")
    return value
