from __future__ import annotations

import pytest

from colreduce.errors import BadParameter, BadRecipe, UnknownName
from colreduce.recipe import PRESETS, Recipe

LINE = "pca(dim=64) | ward(factor=8) | int8 | exhaustive | maxsim(candidates=100)"


@pytest.mark.parametrize("given", [LINE, *PRESETS, "window(size=3)", "ward(keep=0.25) | fp16"])
def test_a_recipe_goes_through_every_form_unchanged(given):
    recipe = Recipe.parse(given)
    assert Recipe.parse(str(recipe)) == recipe
    assert Recipe.from_toml(recipe.to_toml()) == recipe
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert str(Recipe.parse(str(recipe))) == str(recipe)


def test_a_recipe_can_come_from_a_file(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(Recipe.parse(LINE).to_toml())
    assert str(Recipe.parse(file)) == LINE
    with pytest.raises(BadRecipe, match="no recipe file"):
        Recipe.parse(tmp_path / "other.toml")


def test_a_stage_that_is_not_named_loses_nothing():
    assert str(Recipe.parse("ward(factor=8)")) == "ward(factor=8) | fp32 | exhaustive | maxsim"


def test_stages_are_keyed_by_their_order():
    keys = [key for key, _ in Recipe.parse("ward(factor=2) | window(factor=2) | int8").keyed()]
    assert keys == ["reduce.0", "reduce.1", "codec.0", "first_stage.0", "rerank.0"]


@pytest.mark.parametrize(
    ("line", "error", "words"),
    [
        ("wrad(factor=8)", UnknownName, "Did you mean 'ward'"),
        ("ballanced", UnknownName, "Did you mean 'balanced'"),
        ("ward(factr=8)", BadParameter, "Did you mean 'factor'"),
        ("ward(factor=0.5)", BadParameter, "at least 1"),
        ("ward(factor='x')", BadParameter, "wanted float, got str"),
        ("ward(factor=2, size=3)", BadParameter, "one budget"),
        ("ward(8)", BadRecipe, "by keyword"),
        ("ward(factor=2, factor=3)", BadRecipe, "given twice"),
        ("ward(factor=[1])", BadRecipe, "wanted a number"),
        ("ward(factor=__import__)", BadParameter, "wanted float"),
        ("ward(factor=print(1))", BadRecipe, "cannot read the value"),
        ("int8 | ward(factor=2)", BadRecipe, "the order is"),
        ("int8 | fp16", BadRecipe, "one codec"),
        ("", BadRecipe, "not a recipe"),
        ("ward(factor=2) | ", BadRecipe, "not a recipe"),
        ("ward(factor=2", BadRecipe, "cannot read"),
    ],
)
def test_a_mistake_is_explained(line, error, words):
    with pytest.raises(error, match=words):
        Recipe.parse(line)


def test_toml_mistakes_are_explained():
    with pytest.raises(BadRecipe, match="valid TOML"):
        Recipe.from_toml("[[reduce]\n")
    with pytest.raises(UnknownName, match="Did you mean 'reduce'"):
        Recipe.from_toml('[[reduc]]\nmethod = "ward"\n')
    with pytest.raises(BadRecipe, match="'method'"):
        Recipe.from_toml("[codec]\nbits = 8\n")
