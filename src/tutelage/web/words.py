"""The words of the pages, in a TOML file per language. English is whole; what another language lacks is said in English."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources

DEFAULT = "en"


class Words:
    """The catalogues of one package: `words/LANGUAGE.toml`, each key once, with {names} for what is filled in."""

    def __init__(self, package: str) -> None:
        files = sorted((f for f in (resources.files(package) / "words").iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
        self._by_language: dict[str, dict[str, str]] = {}
        for file in files:
            self._by_language[file.name.removesuffix(".toml")] = tomllib.loads(file.read_text(encoding="utf-8"))

    @property
    def languages(self) -> Mapping[str, str]:
        """code -> the language's own name of itself."""
        return {code: words["language_name"] for code, words in self._by_language.items()}

    def catalogue(self, language: str) -> Mapping[str, str]:
        """What a language says itself."""
        return self._by_language.get(language, {})

    def say(self, language: str, key: str, /, *, otherwise: str | None = None, **values: object) -> str:
        """The words of a key. Raises KeyError for one that English lacks, unless `otherwise` says what to say then."""
        said = self.catalogue(language).get(key) or self.catalogue(DEFAULT).get(key) or otherwise
        if said is None:
            raise KeyError(key)
        return said.format(**values) if values else said

    def choose(self, accept_language: str | None) -> str:
        """The first language a browser asks for that is there."""
        for part in (accept_language or "").split(","):
            code = part.split(";")[0].strip().lower().split("-")[0]
            if code in self._by_language:
                return code
        return DEFAULT
