"""Two lists of class names, where they meet: classes are matched by name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .dataset import Images, Part

# So many names are told one by one.
TOLD = 30
# Labels that often mark what is to be ignored.
IGNORED = (-1, 255)


def by_name(images: Part, classes: Sequence[str], data: str, owner: str) -> Part:
    """The images, their labels counted as in another list of classes.

    Args:
      images: any; they may be of some of the classes alone.
      classes: the other list.
      data: what to call the images in a message.
      owner: what to call what has the other list.

    Returns:
      The same images with labels from 0 to the other list's length minus 1, and that list.

    Raises:
      ValueError: a class that the other list lacks, classes that have numbers alone while those of
        the other list have names, or a name that the other list has twice.
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
    # Names without an image may be unknown where they are numbers alone.
    new = np.array([number.get(name, -1) for name in images.classes], np.int32)
    return images.relabelled(new[images.labels], tuple(classes))


def check_count(images: Images, count: int, data: str) -> None:
    """Raises a ValueError unless data have as many classes as a network that has no names for them.

    Args:
      images: the data.
      count: the network's number of classes.
      data: what to call the data.
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
      data: what to call them in a message.
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
    """What so many classes are called that have no names."""
    return tuple(map(str, range(count)))


def listed(names: Sequence[str]) -> str:
    """Names, the first of them where they are many."""
    more = len(names) - TOLD
    return ", ".join(names[:TOLD]) + (f" and {more} more" if more > 0 else "")


def ignored(labels: np.ndarray) -> str:
    """What to say of labels that may not be meant as a class; mostly nothing."""
    found = [str(value) for value in IGNORED if np.any(labels == value)]
    if not found:
        return ""
    often = "often marks" if len(found) == 1 else "often mark"
    return f"; {' and '.join(found)} {often} what is to be ignored: leave those images out"
