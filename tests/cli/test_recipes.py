"""Every recipe in the table of verbs exists and takes the common flags."""

from __future__ import annotations

import importlib

import pytest

from tutelage.base.config import RunConfig
from tutelage.cli.verbs import configured


@pytest.mark.parametrize("verb", configured())
def test_a_recipe_of_the_table_exists_whole(verb):
    recipe = configured()[verb]
    module = importlib.import_module(recipe.module)
    assert issubclass(getattr(module, recipe.config), RunConfig)
    assert callable(getattr(module, recipe.function)) and callable(module.preview)
