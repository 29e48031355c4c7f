from setuptools import Command as build_rust

__all__ = ["build_rust"]
