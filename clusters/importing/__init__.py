"""Imports launch scripts: a recipe and a cluster file that plan the same commands."""
