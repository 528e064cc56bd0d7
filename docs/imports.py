"""Prints which room imports which, from the top down: `python docs/imports.py` in the checkout.

A room is a folder of `experiments/` or of `l2t_jax/`; the files at the top of `experiments/` are
its commands, those at the top of `l2t_jax/` its core. `make lint` refuses an arrow upwards.
"""

import sys
from collections import defaultdict
from pathlib import Path

import grimp

TOPS = {"experiments": "commands", "l2t_jax": "core"}


def room(module: str) -> tuple[str, str]:
    """The package and the room of a module."""
    package, *rest = module.split(".")
    if not rest:
        return package, "__init__"
    folder = len(rest) > 1 or (rest and is_folder[f"{package}.{rest[0]}"])
    # A private file is a room of its own: what it serves does not make it part of the core.
    return package, rest[0] if folder or rest[0].startswith("_") else TOPS[package]


sys.path.insert(0, str(Path(__file__).parents[1]))
graph = grimp.build_graph(*TOPS, cache_dir=None)
is_folder = {name: bool(graph.find_children(name)) for name in graph.modules}
arrows: dict[tuple[str, str], dict[tuple[str, str], int]] = defaultdict(lambda: defaultdict(int))
files: dict[tuple[str, str], int] = defaultdict(int)
for module in graph.modules:
    files[room(module)] += not is_folder[module]
    for imported in graph.find_modules_directly_imported_by(module):
        if room(imported) != room(module):
            arrows[room(module)][room(imported)] += 1


def floor(name: tuple[str, str], above: tuple = ()) -> int:
    """How many rooms lie below one."""
    if name in above:
        raise SystemExit(f"a circle of imports: {' → '.join(n for _, n in (*above, name))}")
    return max((1 + floor(below, (*above, name)) for below in arrows[name]), default=0)


for package in TOPS:
    rooms = sorted((n for n in files if n[0] == package), key=lambda n: (-floor(n), n))
    print(f"\n{package}/")
    for name in rooms:
        below = sorted(arrows[name].items(), key=lambda item: (-floor(item[0]), item[0]))
        library = sum(count for (other, _), count in below if other != package)
        listed = [n for (other, n), _ in below if other == package]
        if library and package == "experiments":
            listed.append("l2t_jax")
        to = ", ".join(listed) or "–"
        print(f"  {floor(name):2}  {name[1]:12} {files[name]:3} files  → {to}")
