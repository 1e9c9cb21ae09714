"""The words that `math_parse` knows, and the cutting of a text into them."""

from __future__ import annotations

import re

FUNCTIONS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log exp lg arccot arcsec arccsc abs".split()  # noqa: SIM905
)
OF_MANY = frozenset(("max", "min", "gcd", "lcm"))
OTHER_NAMES = {
    "asin": "arcsin", "acos": "arccos", "atan": "arctan", "sgn": "sgn", "floor": "floor", "ceil": "ceil", 
    "cbrt": "cbrt",
}  # fmt: skip
CONSTANTS = {"π": "π", "pi": "π", "∞": "∞", "infinity": "∞", "infty": "∞", "inf": "∞", "oo": "∞"}
GREEK = frozenset(
    """alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau upsilon
    phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell hbar""".split()  # noqa: SIM905
)
WRAPPERS = frozenset(("mathcal", "mathbb", "hat", "bar", "tilde", "vec", "overrightarrow", "mathscr", "mathfrak"))
ENVIRONMENTS = frozenset(("matrix", "pmatrix", "bmatrix", "vmatrix", "Bmatrix", "smallmatrix", "array"))
_TOKEN = re.compile(
    r"\s*(?:(\d+(?:\.\d+)?(?:[eE][-+]?\d{1,4}(?![A-Za-z\d]))?|\.\d+)"
    r"|(\\begin\s*\{[a-zA-Z]+\*?\}(?:\s*\{[clr|@{} ]*\})?|\\end\s*\{[a-zA-Z]+\*?\}|\\[A-Za-z]+|\\\\|\\[{}|])"
    r"|((?:arc|a)?(?:sin|cos|tan|cot|sec|csc)h?|ln|log|exp|sqrt|cbrt|infinity|infty|pi|abs|max|min|gcd|lcm|floor|ceil)(?![a-z])"
    r"|([A-Za-zα-ωΑ-Ω])|(.))",
    re.DOTALL,
)
_THOUSANDS = re.compile(r"(?<![\d.,])([1-9]\d{0,2})((?:,\d{3})+)(?![\d,])")


def tokens_of(text: str) -> list[str]:
    """The tokens of a tidied text, and an empty one behind the last."""
    text = _THOUSANDS.sub(lambda m: m.group(1) + m.group(2).replace(",", ""), text)
    found = []
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        assert match is not None  # the last alternative takes any character
        found.append(match.group(match.lastindex or 5))
        position = match.end()
    return [*found, ""]
