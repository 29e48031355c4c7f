"""The contents of an image: files of layers, packages, roles and recipes."""
