"""Adds hub_configs/ to the packages that setuptools finds under src/; all else is in pyproject.toml."""

from setuptools import find_namespace_packages, setup

setup(packages=[*find_namespace_packages("src"), "liver_landmark.hub_configs"])
