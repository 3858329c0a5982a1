"""Nothing in a decision reads a clock, a random source, the world, or an unordered iteration."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import domain

FOLDER = Path(domain.__file__).parent
MODULES = sorted(FOLDER.rglob("*.py"))
ALLOWED = {
    *("__future__", "bisect", "collections", "dataclasses", "datetime", "difflib", "functools", "hashlib"),
    *("itertools", "json", "math", "operator", "re", "types", "typing", "zoneinfo"),
    *("transitions", "domain"),
}
# Allowed modules hold these; the domain may not call them. `hash` and `id` differ from run to run.
BANNED_CALLS = {"open", "hash", "id", "input", "print", "exec", "eval", "__import__", "globals", "breakpoint"}
BANNED_METHODS = {"now", "utcnow", "today", "fromtimestamp", "urandom", "getenv", "popitem", "read_text"}
ORDERLESS = {"sorted", "min", "max", "sum", "any", "all", "len", "set", "frozenset", "bool"}
ORDERED_FROM = {"list", "tuple", "iter", "next", "enumerate", "map", "zip", "dict", "reversed"}


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, (node.module or "").partition(".")[0] if not node.level else "domain"


def banned(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in BANNED_CALLS:
            yield node.lineno, node.func.id
        elif isinstance(node, ast.Call) and _name(node.func) in BANNED_METHODS:
            yield node.lineno, ast.unparse(node.func)
        elif isinstance(node, ast.Attribute) and node.attr == "environ":
            yield node.lineno, node.attr


def _name(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else None


def _is_set(node: ast.AST | None, names: set[str]) -> bool:
    match node:
        case ast.Set() | ast.SetComp():
            return True
        case ast.Call(func=ast.Name(id="set" | "frozenset")):
            return True
        case ast.BinOp(op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor()):
            return _is_set(node.left, names) or _is_set(node.right, names)
        case ast.Name() | ast.Attribute():
            return _name(node) in names
    return False


def _sets(tree: ast.AST) -> set[str]:
    """Names of the module that are said to be sets, or given one."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.AnnAssign, ast.arg)) and node.annotation is not None:
            target = node.arg if isinstance(node, ast.arg) else _name(node.target)
            if target and ast.unparse(node.annotation).startswith(("set[", "frozenset[", "AbstractSet[")):
                found.add(target)
        elif isinstance(node, ast.Assign) and _is_set(node.value, found):
            found |= {name for target in node.targets if (name := _name(target))}
    return found


def unordered(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every place where the order of a set could show."""
    names = _sets(tree)
    harmless: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ORDERLESS:
            harmless |= set(node.args)
    for node in ast.walk(tree):
        looked: list[ast.AST] = []
        if isinstance(node, (ast.For, ast.Starred)):
            looked = [node.iter if isinstance(node, ast.For) else node.value]
        elif isinstance(node, (ast.ListComp, ast.GeneratorExp, ast.DictComp)) and node not in harmless:
            looked = [part.iter for part in node.generators]
        elif isinstance(node, ast.Call):
            function = node.func
            named = isinstance(function, ast.Name) and function.id in ORDERED_FROM and node not in harmless
            method = isinstance(function, ast.Attribute) and function.attr in ("join", "extend", "fromkeys")
            if named or method:
                looked = list(node.args)
            elif isinstance(function, ast.Attribute) and function.attr == "pop" and not node.args:
                looked = [function.value]
        yield from ((node.lineno, ast.unparse(item)) for item in looked if _is_set(item, names))  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_of_the_domain_reaches_nothing_impure(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert [found for found in imports(tree) if found[1] not in ALLOWED] == []
    assert list(banned(tree)) == []
    assert list(unordered(tree)) == []


@pytest.mark.parametrize(
    "source",
    [
        *("import time", "from random import choice", "import asyncio", "from os import path"),
        *("dt.datetime.now()", "open('x')", "key = hash(name)", "key = id(name)", "dt.date.today()"),
        *("for x in {1, 2}: pass", "found = set(a)\nrows = [x for x in found]", "list({x for x in a})"),
        *("a: set[str] = f()\n','.join(a)", "rows = [*{1, 2}]", "first = next(iter(set(a) - b))"),
        *("class A:\n  def f(self):\n    self.ids = set()\n  def g(self):\n    return tuple(self.ids)",),
    ],
)
def test_the_check_would_find_it(source: str) -> None:
    tree = ast.parse(source)
    strange = [found for found in imports(tree) if found[1] not in ALLOWED]
    assert [*strange, *banned(tree), *unordered(tree)]


@pytest.mark.parametrize("source", ["sorted({1, 2})", "x in {1, 2}", "len(set(a))", "any(x for x in set(a))"])
def test_the_check_lets_harmless_uses_pass(source: str) -> None:
    assert list(unordered(ast.parse(source))) == []


SCENARIO = """
import hashlib
from tests.domain.test_frozen import FILES, case_of
told = b"".join(case_of(path).bytes() for path in FILES)
print(len(told), hashlib.sha256(told).hexdigest())
"""


def test_the_same_bytes_under_any_hash_seed() -> None:
    told = set()
    for seed in ("0", "1", "4711"):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", SCENARIO],
            cwd=FOLDER.parent,
            env=env,
            capture_output=True,
            text=True,
            check=True,
        )
        told.add(done.stdout)
    assert len(told) == 1
    assert int(told.pop().split()[0]) > 5_000
