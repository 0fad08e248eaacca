"""Judging recipes: collections, metrics and what every stage loses."""
