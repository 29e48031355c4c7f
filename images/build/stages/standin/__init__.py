"""A stand-in for a CANN image: its paths, environment and scripts, with generated libraries.

The build stage runs the package with ``python3 -m standin``; on the builder
``images.build.stages.standin.environment`` renders the ENV lines with the standard library alone.
"""
