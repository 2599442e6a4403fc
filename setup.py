"""What pyproject.toml cannot say of the package: where the space files lie that it carries."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[*find_namespace_packages(include=["dynnas", "dynnas.*"]), "dynnas.spaces"],
    package_dir={"dynnas.spaces": "spaces"},
)
