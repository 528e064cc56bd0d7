"""Groups of runs that differ in the seed alone, with their rows and columns in a table."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ..options.checks import flag
from ..options.methods import METHODS, uses
from ..runs.finished import Run
from . import run_identity, searches
from .run_identity import DATA

# Options whose value is clear without the name.
PLAIN = ("source", "target", "pairs", "where", "scheme", "augment")


class Group(NamedTuple):
    """Runs that differ in the seed alone.

    Attributes:
      runs: one for each seed, ascending.
      data: their images: the values of `DATA`, as given and as divided.
      traits: their options that are not the defaults (of their task, if they have one), and the
        digests of their sources.
    """

    runs: tuple[Run, ...]
    data: dict[str, Any]
    traits: dict[str, Any]

    @property
    def method(self) -> str:
        """Its name."""
        return self.runs[0].config["method"]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Those of the runs."""
        return tuple(run.config["seed"] for run in self.runs)


class Column(NamedTuple):
    """Images that runs learn from.

    Attributes:
      label: names them.
      name: of the data, without the number of images.
      per_class: number of images per class; None for all.
    """

    label: str
    name: str
    per_class: int | None


class Arranged(NamedTuple):
    """Groups of runs as a table.

    Attributes:
      rows: methods, with the options in which they differ.
      columns: data and number of images.
      groups: by row and column's label. Some places may be empty.
      repeated: runs that are left out, because a later one has the same options and seed.
      common: options that are not the default, but the same in all rows that have them.
    """

    rows: list[str]
    columns: list[Column]
    groups: dict[tuple[str, str], Group]
    repeated: list[Run]
    common: list[str]


def arrange(runs: Iterable[Run]) -> Arranged:
    """Groups runs that differ in the seed alone, and gives each group a row and column."""
    repeats: dict[str, dict[int, Run]] = defaultdict(dict)
    repeated = []
    for run in sorted(runs, key=lambda run: run.finished):
        same = repeats[_key(run_identity.identity(run))]
        seed = run.config["seed"]
        if seed in same:
            repeated.append(same[seed])
        same[seed] = run
    groups = [
        _group(tuple(run for _, run in sorted(by_seed.items()))) for by_seed in repeats.values()
    ]
    found_by = searches.names([group.runs[0].config for group in groups])
    for group, search in zip(groups, found_by, strict=True):
        group.traits.update({} if search is None else {"weights_from": search})
    columns = _columns(groups)
    levels = [_method_and_options, _method_and_traits, _all]
    rows = sorted(_rows(groups, levels), key=lambda row: _order(row[0]))
    common = _common(rows)
    labels = _row_labels(rows, common)
    table = {
        (label, columns[_key(group.data)].label): group
        for label, row in zip(labels, rows, strict=True)
        for group in row
    }
    alike = [_trait(name, common[name], ()) for name in common if name != "source_sha256"]
    return Arranged(labels, list(columns.values()), table, repeated, alike)


def _group(runs: tuple[Run, ...]) -> Group:
    identity, default = run_identity.identity(runs[0]), run_identity.defaults(runs[0])
    left_out = {"method", "matched_pairs", *DATA}
    traits = {
        name: value
        for name, value in identity.items()
        if name not in left_out and value != default.get(name)
    }
    return Group(runs, {name: identity.get(name) for name in DATA}, traits)


def _order(group: Group) -> Any:
    """Sorts methods in their order, those with fewer options first, and numbers ascending."""
    values = [
        (name, value, "") if isinstance(value, float | int) else (name, float("inf"), _key(value))
        for name, value in group.traits.items()
    ]
    return list(METHODS).index(group.method), len(values), values


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


Level = Callable[[Group], Any]


def _method_and_options(group: Group) -> Any:
    # Without the weights, since each task has its own source.
    return group.method, {k: v for k, v in group.traits.items() if k != "source_sha256"}


def _method_and_traits(group: Group) -> Any:
    return group.method, group.traits


def _all(group: Group) -> Any:
    return run_identity.identity(group.runs[0])


def _rows(groups: Sequence[Group], levels: Sequence[Level]) -> Iterator[list[Group]]:
    """Rows: groups that are alike on the first level at which no two share a column."""
    alike: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        alike[_key(levels[0](group))].append(group)
    for row in alike.values():
        if len({_key(group.data) for group in row}) < len(row):
            yield from _rows(row, levels[1:])
        else:
            yield row


def _common(rows: Sequence[Sequence[Group]]) -> dict[str, Any]:
    """Traits that are the same in all rows whose method uses the option."""
    traits = {name: value for row in rows for name, value in row[0].traits.items()}
    return {
        name: value
        for name, value in traits.items()
        if all(
            group.traits.get(name) == value
            for row in rows
            for group in row
            if uses(group.method, name)
        )
    }


def _row_labels(rows: Sequence[Sequence[Group]], common: dict[str, Any]) -> list[str]:
    """Methods, with the options in which the rows that use them differ."""
    alike = Counter(_key(_method_and_options(row[0])) for row in rows)
    labels = []
    for first in (row[0] for row in rows):
        parts = [first.method]
        for name, value in first.traits.items():
            # Weights are named only if nothing else tells the rows apart.
            if name != "source_sha256" or alike[_key(_method_and_options(first))] > 1:
                parts += [] if name in common else [_trait(name, value)]
        labels.append(" ".join(parts))
    return _distinct(labels)


def _trait(name: str, value: Any, plain: Sequence[str] = PLAIN) -> str:
    """An option's name and value; only the value if it is among the plain ones."""
    if name == "source_sha256":
        return f"weights {'+'.join(digest[:8] for digest in value)}"
    if name == "data_sha256":
        return f"content {str(value)[:8]}"
    if name == "pairs" and len(value) > 20:
        return f"{value.count(',') + 1} pairs"
    text = (
        "+".join(map(run_identity.text, value))
        if isinstance(value, list)
        else run_identity.text(value)
    )
    return text if name in plain else f"{flag(name)[2:]} {text}"


def _columns(groups: Sequence[Group]) -> dict[str, Column]:
    """The column of each group's data, by its key, in the table's order."""
    data = {_key(group.data): group.data for group in groups}
    names = {key: each["task"] or run_identity.data_name(each) for key, each in data.items()}
    order = sorted(data, key=lambda key: (names[key], data[key]["per_class"] or float("inf"), key))
    differing = {
        (name, option)
        for option in DATA[1:-3]
        for name in names.values()
        if len({_key(data[key][option]) for key in data if names[key] == name}) > 1
    }
    full = {
        key: ", ".join(
            [names[key]]
            + [
                _trait(option, value, ())
                for option, value in data[key].items()
                if (names[key], option) in differing
            ]
        )
        for key in order
    }
    labels = _distinct([f"{full[key]}, {_images(data[key])}" for key in order])
    return {
        key: Column(label, full[key], data[key]["per_class"])
        for key, label in zip(order, labels, strict=True)
    }


def _images(data: dict[str, Any]) -> str:
    if data["per_class"] is not None:
        return f"{data['per_class']} per class"
    return f"all {data['images']['train']}"


def _distinct(labels: Sequence[str]) -> list[str]:
    """The labels, with numbers after those that are the same."""
    seen: Counter[str] = Counter()
    distinct = []
    for label in labels:
        seen[label] += 1
        distinct.append(f"{label} ({seen[label]})" if seen[label] > 1 else label)
    return distinct
