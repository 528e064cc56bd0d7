"""Matches two lists of classes by name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .dataset import Images, Part

# A message lists at most this many names.
TOLD = 30
# Data sets often use these labels for images to ignore.
IGNORED = (-1, 255)


def by_name(images: Part, classes: Sequence[str], data: str, owner: str) -> Part:
    """The images, with labels that count through another list of classes.

    Args:
      images: the images; they need not have all of the classes.
      classes: the other list.
      data: what a message calls the images.
      owner: what a message calls the owner of the other list.

    Returns:
      The same images with labels from 0 to the other list's length minus 1, and that list.

    Raises:
      ValueError: the other list lacks a class or has a name twice, or it has names where the images
        have only numbers.
    """
    number = {name: i for i, name in enumerate(classes)}
    names = images.classes if images.named else with_images(images)
    if len(number) < len(classes):
        raise ValueError(f"{owner} must name every class once (got {listed(classes)})")
    both = f"{data} has {listed(names)}; {owner} has {listed(classes)}"
    if not images.named and tuple(classes) != numbers(len(classes)):
        raise ValueError(
            f"the classes of {data} must have names, as those of {owner} have (got labels alone); "
            f"name them in an array classes: {both}"
        )
    if unknown := [name for name in names if name not in number]:
        raise ValueError(
            f"the classes of {data} must be among those of {owner} (got {listed(unknown)}): {both}"
            + ("" if images.named else ignored(images.labels))
        )
    # A number without an image may be missing from the other list.
    new = np.array([number.get(name, -1) for name in images.classes], np.int32)
    return images.relabelled(new[images.labels], tuple(classes))


def check_count(images: Images, count: int, data: str) -> None:
    """Raises a ValueError unless data have as many classes as a network without class names.

    Args:
      images: the data.
      count: the network's number of classes.
      data: what a message calls the data.
    """
    if len(images.classes) != count:
        names = images.classes if images.named else with_images(images)
        raise ValueError(
            f"{data} must have {count} classes, as many as the network, since weights alone have "
            f"no class names (got {len(images.classes)}: {listed(names)}); classes are matched by "
            "name where the folder of a run is given: evaluate RUN DATA"
            + ("" if images.named else ignored(images.labels))
        )


def check_every_class(images: Images, data: str) -> None:
    """Raises a ValueError unless there are two classes or more, and an image of each.

    Args:
      images: the images to train on.
      data: what a message calls them.
    """
    if len(images.classes) < 2:
        raise ValueError(f"{data} must have two classes or more (got one)")
    if not (empty := without_images(images)):
        return
    none = listed(empty)
    if images.named:
        raise ValueError(
            f"{data} must have an image of every class (got none of {none}); leave out the names "
            "of those classes, and number the others without gaps"
        )
    there = with_images(images)
    from_one = empty == numbers(1)
    got = f"{there[0]} to {there[-1]}" if from_one else listed(there)
    how = "subtract 1" if from_one else "number the classes anew"
    raise ValueError(
        f"the labels of {data} must count from 0 without gaps (got {got}: no image of "
        f"class{'es' * (len(empty) > 1)} {none}); {how}{ignored(images.labels)}"
    )


def with_images(images: Images) -> tuple[str, ...]:
    """The classes that have an image, in the labels' order."""
    return tuple(images.classes[label] for label in np.unique(images.labels))


def without_images(images: Images) -> tuple[str, ...]:
    """The classes that have no image, in the labels' order."""
    counts = np.bincount(images.labels, minlength=len(images.classes))
    return tuple(images.classes[label] for label in np.flatnonzero(counts == 0))


def numbers(count: int) -> tuple[str, ...]:
    """The names of so many classes without names: their numbers."""
    return tuple(map(str, range(count)))


def listed(names: Sequence[str]) -> str:
    """Names separated by commas; of many only the first."""
    more = len(names) - TOLD
    return ", ".join(names[:TOLD]) + (f" and {more} more" if more > 0 else "")


def ignored(labels: np.ndarray) -> str:
    """A hint for labels that may mark images to ignore; empty if there are none."""
    found = [str(value) for value in IGNORED if np.any(labels == value)]
    if not found:
        return ""
    often = "often marks" if len(found) == 1 else "often mark"
    return f"; {' and '.join(found)} {often} images to ignore: leave them out"
