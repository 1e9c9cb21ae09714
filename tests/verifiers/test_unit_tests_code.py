"""The program in a completion, in whatever form it comes."""

# Whole programs stand here as one string each.
# ruff: noqa: E501

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.verifiers.unit_tests import UnitTests
from flywheel.verifiers.unit_tests_code import program_texts, prompt_code
from tests.verifiers.unit_tests_cases import RIGHT, C, N, W, problem


@pytest.fixture(scope="module")
def verifier() -> Iterator[UnitTests]:
    made = UnitTests(seconds=20.0)
    yield made
    made.close()


FORMS = {
    "bare": (RIGHT, C),
    "fenced": (f"Here:\n```python\n{RIGHT}\n```\nDone.", C),
    "fence without a language": (f"```\n{RIGHT}\n```", C),
    "fence without an end": (f"```python\n{RIGHT}", C),
    "tildes": (f"~~~py\n{RIGHT}\n~~~", C),
    "indented fence": ("1. So:\n   ```python\n" + "".join(f"   {line}\n" for line in RIGHT.split("\n")) + "   ```", C),
    "the last that defines it": (f"```python\ndef f(x): return 0\n```\nNo:\n```python\n{RIGHT}\n```", C),
    "usage after it": (f"```python\n{RIGHT}\n```\nUse:\n```python\nprint(f(1))\n```\n```bash\npython f.py\n```", C),
    "a helper in a block before": ("```python\ndef g(x):\n    return 1\n```\n```python\ndef f(x):\n    return x + g(x)\n```", C),
    "after a thought": (f"<think>```python\ndef f(x): return 0\n```</think>\n```python\n{RIGHT}\n```", C),
    "only in a thought": (f"<think>```python\n{RIGHT}\n```</think>\nIt is done.", N),
    "a thought without end": (f"<think>```python\n{RIGHT}\n```", N),
    "prose around bare code": (f"Sure, this is it.\n\n{RIGHT}\n\nIt adds one to x.", C),
    "windows lines": (f"```python\r\n{RIGHT}\r\n```".replace("\n", "\r\n"), C),
    "a lambda": ("```python\nf = lambda x: x + 1\n```", C),
    "a cut-off tail": (f"{RIGHT}\n\ndef g(y):\n    return (y", C),
    "another name": ("```python\ndef g(x): return x + 1\n```", W),
    "a broken block": ("```python\ndef f(x) return\n```", W),
    "prose": ("I cannot do that.", N),
    "nothing": ("", N),
    "NUL and surrogates": ("\x00\ud800", N),
    "a megabyte": ("def f(x): return x + 1\n" + "#" * 1_000_000, W),
    "ten thousand brackets": ("```python\n" + RIGHT + "\ny = " + "(" * 10000 + "\n```", W),
    "fails while loaded": (f"```python\n{RIGHT}\n1 / 0\n```", W),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_completions(verifier: UnitTests, form: str) -> None:
    text, outcome = FORMS[form]
    judgement = verifier.verify(problem("assert f(1) == 2\nassert f(5) == 6"), text)
    assert judgement.outcome is outcome, judgement


def test_a_completion_that_continues_the_prompt(verifier: UnitTests) -> None:
    prompt = 'def f(x):\n    """ One more. """\n'
    p = problem("def check(candidate):\n    assert candidate(1) == 2", prompt=prompt)
    for text in (
        "    return x + 1\n",
        "return x + 1",
        "```python\n    return x + 1\n```",
        "    return x + 1\n\nprint('cut",
        RIGHT,
    ):
        assert verifier.verify(p, text).outcome is C, text
    assert verifier.verify(p, "    return x\n").outcome is W
    assert verifier.verify(p, "    I do not know\n").outcome is N
    chat = problem(p.meta["test"], prompt=f"Complete this:\n```python\n{prompt}```\n")
    assert verifier.verify(chat, "    return x + 1\n").outcome is C
    template = problem(p.meta["test"], prompt="Write it, please: " + prompt, **{"prompt_": 0})
    template.meta["prompt"] = prompt
    assert verifier.verify(template, "    return x + 1\n").outcome is C


@given(st.text(alphabet=st.sampled_from(list("`~pyf():=\n \x00\ud800d<>think/x")), max_size=300))
@settings(max_examples=200, deadline=None)
def test_extraction_takes_any_text(text: str) -> None:
    found = program_texts(text, "def f(x):\n", "f")
    assert all(t.strip() and least >= 1 for t, least in found.texts)


def test_prompt_code_is_code() -> None:
    assert prompt_code("Write a function.") == ""
    assert prompt_code("def f(x):\n    '''x'''\n").startswith("def f")
