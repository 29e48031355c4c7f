"""A cluster in containers on this machine, without an NPU, with a model that is made here."""
