"""Python programs without what does not matter to how they work: layout, comments, docstrings, chosen names."""

from __future__ import annotations

import ast
import re
import warnings

_FENCED = re.compile(r"^[ \t]*(?:```|~~~)[^\n]*\n(.*?)(?:^[ \t]*(?:```|~~~)[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)


def normal_form(text: str) -> str | None:
    """The program in a completion, written the same way whoever wrote it; None where there is none.

    Fenced blocks are the program, else the whole text is, which may be the indented body of a function. Names that
    the program itself binds are numbered in the order in which they appear.
    """
    blocks = _FENCED.findall(text)
    source = "\n".join(blocks) if blocks else text
    if not source.strip():
        return None
    for candidate in (source, f"if True:\n{source}"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # an invalid escape in a string is the completion's business
                tree = ast.parse(candidate)
            _drop_docstrings(tree)
            return ast.unparse(_Renamed(tree).visit(tree))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue  # no Python, a null byte, or nested deeper than the parser or we can follow
    return None


def _drop_docstrings(tree: ast.AST) -> None:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.If)):
            kept = [line for line in node.body if not _is_text(line)]
            node.body = kept or [ast.Pass()]


def _is_text(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)


class _Renamed(ast.NodeTransformer):
    """Gives every name that the tree binds the name of its place: v0, v1, …"""

    def __init__(self, tree: ast.AST) -> None:
        self._bound = {name for node in ast.walk(tree) for name in _binds(node)}
        self._given: dict[str, str] = {}

    def _new(self, name: str) -> str:
        return self._given.setdefault(name, f"v{len(self._given)}") if name in self._bound else name

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self._new(node.id)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.arg = self._new(node.arg)
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.name, node.returns = self._new(node.name), None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is None:
            return self.generic_visit(node)
        return self.generic_visit(ast.copy_location(ast.Assign([node.target], node.value), node))


def _binds(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return [node.id]
    if isinstance(node, ast.arg):
        return [node.arg]
    return [node.name] if isinstance(node, ast.FunctionDef) else []
