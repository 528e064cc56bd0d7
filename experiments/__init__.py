"""Experiments with the library: the commands, and what they need. Begin with `train`."""

from .system import environment

environment.keep_memory()
environment.divide_loops()
