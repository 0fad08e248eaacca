"""Choosing a recipe: a search for the smallest, fastest or best one that keeps a promise."""
