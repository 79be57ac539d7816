"""The models that runs can name: configured models, and the names they go by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from server.runs.local import LocalModel
from server.runs.turns import ChatModel


@dataclass(frozen=True, slots=True)
class Model:
    """A configured model: its id, and what takes its turns."""

    id: str
    created: int
    chat: ChatModel

    @property
    def local(self) -> LocalModel | None:
        """What has to be loaded before it takes turns; None for a model that is elsewhere."""
        return self.chat if isinstance(self.chat, LocalModel) else None

    @property
    def embeds(self) -> bool:
        """Whether it makes vectors of texts, and takes no turns."""
        return self.local is not None and self.local.embeds

    @property
    def ranks(self) -> bool:
        """Whether it tells how well texts answer a query, and takes no turns."""
        return self.local is not None and self.local.ranks


class Catalog:
    """All configured models, the default one first.

    `aliases` maps patterns such as `gpt-*` to the id of one of them.
    """

    def __init__(self, models: list[Model], aliases: Mapping[str, str]) -> None:
        self.models = {model.id: model for model in models}
        self.default = models[0].id
        self._aliases = aliases

    def resolve(self, name: str) -> Model | None:
        """The model that a client means by `name`: its id, else the longest alias that matches."""
        if name in self.models:
            return self.models[name]
        patterns = sorted(self._aliases, key=len, reverse=True)
        matching = (self._aliases[p] for p in patterns if fnmatchcase(name, p))
        return next((self.models[i] for i in matching if i in self.models), None)

    def names(self) -> dict[str, Model]:
        """Every name that stands for itself: the ids, and the aliases that are no patterns."""
        plain = {name: i for name, i in self._aliases.items() if not set(name) & set("*?[")}
        aliases = {name: self.models[i] for name, i in plain.items() if i in self.models}
        return {**self.models, **aliases}
