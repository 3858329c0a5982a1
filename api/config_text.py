"""A config's text, YAML or JSON, as data: strictly, so that it says one thing only."""

from __future__ import annotations

import json
from typing import Any

import yaml

from api.ingest import strict
from domain import errors

MOST_NODES = 100_000  # values in a config


class _StrictLoader(yaml.SafeLoader):
    """YAML as JSON would have it: no duplicate keys, no dates."""


def _mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if not isinstance(key, str):
            raise yaml.MarkedYAMLError(problem=f"key {key!r} is not text", problem_mark=key_node.start_mark)
        if key in seen:
            raise yaml.MarkedYAMLError(problem=f"duplicate key {key!r}", problem_mark=key_node.start_mark)
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if tag != "tag:yaml.org,2002:timestamp"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse(raw: bytes, *, is_json: bool) -> Any:
    """A config's text as data. Raises InvalidInput with line and column."""
    if is_json:
        return strict.loads(raw)
    try:
        loader = _StrictLoader(raw)
        node = loader.get_single_node()
        if node is None:
            return None
        _bound(node)
        value = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        raise errors.InvalidInput([errors.Fault(where, f"not YAML: {error.problem}")]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise errors.InvalidInput([errors.Fault("", f"not YAML: {error}")]) from None
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError):  # bytes, sets, infinities, halves of a surrogate pair
        raise errors.InvalidInput([errors.Fault("", "holds something that JSON cannot hold")]) from None
    return strict.loads(text)


def _bound(root: yaml.Node) -> None:
    """Raises YAMLError where aliases make a small text a huge value, or one that holds itself."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node, depth: int) -> int:
        known = sizes.get(id(node))
        if known is None:
            if depth > strict.MAX_DEPTH:
                raise yaml.YAMLError(f"nested deeper than {strict.MAX_DEPTH}")
            below = node.value if isinstance(node, yaml.CollectionNode) else ()
            parts = [part for item in below for part in (item if isinstance(item, tuple) else (item,))]
            known = sizes[id(node)] = 1 + sum(size(part, depth + 1) for part in parts)
        return known

    if size(root, 1) > MOST_NODES:
        raise yaml.YAMLError(f"more than {MOST_NODES} values once aliases are written out")
