"""YAML that somebody wrote, without what makes a few lines stand for millions: aliases (*name) and merge keys (<<)."""

from __future__ import annotations

from functools import cache
from typing import Any

from synmotion_core.errors import ConfigError


def read_yaml(text: str, *, first_line: int = 1, words: bool = False) -> Any:
    """What yaml.safe_load reads of it. words: without YAML 1.1's other booleans, `off` is a word and true is not.

    first_line: where in a file the text begins. Raises ConfigError for an alias or a merge key, naming the line; as
    yaml does, YAMLError, ValueError (a date or a number that is none) and RecursionError.
    """
    loader = _loader(words)(text)
    loader.first_line = first_line
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


@cache
def _loader(words: bool) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        first_line = 1

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                event = self.peek_event()
                self._refuse(event.start_mark, f"an alias, *{event.anchor[:40]}")
            return super().compose_node(parent, index)

        def flatten_mapping(self, node: Any) -> None:
            for key, _ in node.value:
                if key.tag == "tag:yaml.org,2002:merge":
                    self._refuse(key.start_mark, "a merge key, <<")
            super().flatten_mapping(node)

        def _refuse(self, mark: Any, what: str) -> None:
            raise ConfigError(f"line {mark.line + self.first_line} has {what}: write out what it stands for")

    if words:
        Loader.yaml_implicit_resolvers = {
            first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:bool" or first in "tTfF"]
            for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }
    return Loader
