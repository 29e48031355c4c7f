"""On PYTHONPATH while a wheel is built without a device: makes setup() skip native code."""

import setuptools

_setup = setuptools.setup


def _setup_without_native_code(**arguments):
    commands = arguments.get("cmdclass", {})
    python_only = {name: command for name, command in commands.items() if name == "build_py"}
    # Without setuptools-rust, setup() would warn of an unknown argument.
    arguments.pop("rust_extensions", None)
    return _setup(**{**arguments, "ext_modules": [], "cmdclass": python_only})


setuptools.setup = _setup_without_native_code
