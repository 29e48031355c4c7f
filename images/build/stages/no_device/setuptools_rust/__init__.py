"""In place of setuptools-rust, for a setup.py that imports it: nothing is compiled."""


class Binding:
    Exec = NoBinding = PyO3 = None


class RustExtension:
    def __init__(self, *arguments, **options):
        pass
