"""The matrix, and broken copies of it."""

from tests.images.conftest import docker, edited, matrix, problems_of, variant

__all__ = ["docker", "edited", "matrix", "problems_of", "variant"]
