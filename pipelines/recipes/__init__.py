"""Recipes: whole programs, read top to bottom, that made the shipped models."""
