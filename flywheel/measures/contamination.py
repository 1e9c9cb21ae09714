"""Contamination: examples that carry the text of a held-out or out-of-distribution problem."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from flywheel.near_copies import FEWEST_FOR_TEMPLATE, words
from flywheel.types import Problem, Split

SHORT, LONG = 8, 13
"""Words of the n-grams: of PaLM's test and of GPT-3's."""

COMMON = 10
"""An n-gram in more problems than this is a turn of phrase (GPT-3 ignores those that collide as often)."""

Gram = tuple[int, ...]


class HeldOut:
    """The n-grams of all problems that no example may carry.

    An example carries a problem when they share one 13-gram (Brown et al. 2020, arXiv:2005.14165, appendix C), or when
    `share` of the problem's 8-grams are in the example (Chowdhery et al. 2022, arXiv:2204.02311, section 8: 70 %).
    N-grams are of words, numbers and operators, whatever their case. What is shared because the problems come from one
    template says nothing: an 8-gram in more than `COMMON` problems, or in more than `template_share` of them, is left
    out with all that overlaps it, and so is a problem of which no more than eight words remain.
    """

    def __init__(self, problems: Sequence[Problem], *, share: float, template_share: float) -> None:
        self._share = share
        self._ids: dict[str, int] = {}
        self._sets: list[str] = []
        self._sizes: list[int] = []
        self._short: dict[Gram, list[int]] = defaultdict(list)
        self._long: dict[Gram, int] = {}
        self._of_prompt: dict[str, tuple[str | None, set[Gram]]] = {}
        texts = [[self._ids.setdefault(w, len(self._ids)) for w in words(_asked(p))] for p in problems]
        spread = Counter(gram for text in texts for gram in set(_ngrams(text, SHORT)))
        common = min(COMMON, max(FEWEST_FOR_TEMPLATE, template_share * len(problems)))
        for problem, text in zip(problems, texts, strict=True):
            if problem.split != Split.TRAIN or problem.ood:
                self._add(problem.ood or str(problem.split), text, spread, common)

    def _add(self, name: str, text: Sequence[int], spread: Counter[Gram], common: float) -> None:
        template = {
            place + i for place, gram in enumerate(_ngrams(text, SHORT)) if spread[gram] > common for i in range(SHORT)
        }
        if len(text) - len(template) <= SHORT:
            return
        index = len(self._sets)
        short = {gram for at, gram in enumerate(_ngrams(text, SHORT)) if template.isdisjoint(range(at, at + SHORT))}
        for gram in short:
            self._short[gram].append(index)
        for at, gram in enumerate(_ngrams(text, LONG)):
            if template.isdisjoint(range(at, at + LONG)):
                self._long.setdefault(gram, index)
        self._sets.append(name)
        self._sizes.append(len(short))

    def carried(self, problem: Problem, completion: str) -> str | None:
        """The set whose text an example of `problem` carries, in its prompt or in its completion: `dev`, `test` or the
        label of an out-of-distribution set; None where it carries none. Linear in the words."""
        if not self._short:
            return None
        if problem.id not in self._of_prompt:
            self._of_prompt[problem.id] = self._shared(_asked(problem))
        in_prompt, of_prompt = self._of_prompt[problem.id]
        found, shared = self._shared(completion)
        if found := in_prompt or found:
            return found
        # Each n-gram once: a completion that says its prompt again carries no more of a problem for that.
        times = Counter(index for gram in shared | of_prompt for index in self._short[gram])
        for index in sorted(times):
            if self._sizes[index] and times[index] >= self._share * self._sizes[index]:
                return self._sets[index]
        return None

    def _shared(self, text: str) -> tuple[str | None, set[Gram]]:
        """The set of a 13-gram that a text has, and the problems' 8-grams that it has."""
        shared: set[Gram] = set()
        for run in self._known_runs(text):
            seen = {gram for gram in _ngrams(run, SHORT) if gram in self._short}
            if not seen:
                continue  # a common 13-gram would have common 8-grams in it
            shared |= seen
            for gram in _ngrams(run, LONG):
                if gram in self._long:
                    return self._sets[self._long[gram]], shared
        return None, shared

    def _known_runs(self, text: str) -> Iterator[list[int]]:
        """Stretches of words that all occur in some problem, long enough to hold an n-gram."""
        run: list[int] = []
        for word in words(text):
            known = self._ids.get(word)
            if known is not None:
                run.append(known)
                continue
            if len(run) >= SHORT:
                yield run
            run = []
        if len(run) >= SHORT:
            yield run


def _ngrams(text: Sequence[int], n: int) -> Iterator[Gram]:
    return zip(*(text[i:] for i in range(n)), strict=False)


def _asked(problem: Problem) -> str:
    """The words that ask a problem: its prompt, or all turns of its conversation but the system's."""
    if not problem.messages:
        return problem.prompt
    return "\n".join(m["content"] for m in problem.messages if m["role"] != "system")
