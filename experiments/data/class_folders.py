"""Listing a folder of class folders, with all that is wrong with it in one report."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from . import crops
from .image_files import Folder, ImageFiles, shown, tell

# Browsers save JPEGs as .jfif.
JPEG = (".jpg", ".jpeg", ".jfif", ".jpe")
SUFFIXES = (".png", *JPEG, ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")
# What the parts of a data set are called that is divided already, by what they are for.
PARTS = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "val": ("val", "valid", "validation", "dev"),
}
# What systems leave behind, beside hidden files.
LEFT_OUT = {"thumbs.db", "desktop.ini", "__macosx"}
FOLDER, FILE = "folder", "file"


def list_folder(root: Path, size: int, crop_share: float | None = None) -> ImageFiles:
    """Lists a folder of class folders, and reads the header of every image.

    Hidden files, what systems leave behind, and files beside the class folders that are no images
    are left out. All else has to be an image in a class folder. Class names are brought to
    Unicode's composed form, in which they compare and sort alike wherever they were written.

    Args:
      root: the folder.
      size: side in pixels that the images are to be brought to.
      crop_share: how much of the shorter side the centre crop keeps; None for the default, see
        `crops.share_for`.

    Returns:
      The files.

    Raises:
      ValueError: tells all that is wrong: what does not belong there, classes without an image, and
        images that cannot be read. If anything is, all images are decoded for that.
    """
    problems: list[str] = []
    classes = class_folders(root, problems)
    check_classes(root, classes)
    names, labels = [], []
    for label, folder in enumerate(classes.values()):
        found = images_of(folder, problems)
        names += [f"{folder.name}/{name}" for name in found]
        labels += [label] * len(found)
    files = ImageFiles(
        Folder(root),
        np.array(names, np.str_),
        np.array(labels, np.int32),
        tuple(classes),
        size,
        crops.share_for(size, crop_share),
    )
    if problems or files.problems(decode=False):
        tell(problems + files.problems(decode=True))
    return files


def class_folders(root: Path, problems: list[str]) -> dict[str, Path]:
    """The class folders by the classes' names, sorted; adds what is wrong to the problems."""
    found: dict[str, Path] = {}
    for path, kind in entries(root, problems):
        if kind == FOLDER:
            name = unicodedata.normalize("NFC", path.name)
            if name in found:
                problems.append(
                    f"{shown(str(path))}: another folder has this name in another form of Unicode"
                )
            found[name] = path
        elif path.suffix.lower() in SUFFIXES:
            problems.append(f"{shown(str(path))}: an image beside the class folders")
    if not found:
        problems.append(f"{root} holds no folder; wanted one a class")
    return dict(sorted(found.items()))


def check_classes(root: Path, classes: dict[str, Path]) -> None:
    """Raises a ValueError where class folders look like the parts of a divided data set.

    They do by their names, if there are no others or if folders alone are in them.
    """
    found = {
        part: folder
        for part, names in PARTS.items()
        for name, folder in classes.items()
        if name.lower() in names
    }
    nested = [folder for folder in found.values() if holds_folders_alone(folder)]
    if not nested and not (len(found) == len(classes) > 1):
        return
    got = ", ".join(f"{folder.name}/" for folder in found.values())
    parts = {"--data": found.get("train"), "--test-data": found.get("test", found.get("val"))}
    options = " ".join(f"{option} {folder}" for option, folder in parts.items() if folder)
    held_out = "; validation images are held out of the training images (--val-fraction)"
    raise ValueError(
        f"{root} must hold one folder a class (got {got}, which look like parts of a data set that "
        f"is divided already); to train, give the parts as {options}, to evaluate, give one of them"
        + (held_out if len(found) == len(PARTS) else "")
    )


def holds_folders_alone(folder: Path) -> bool:
    """Whether a folder has folders in it, and no image."""
    found = [
        kind
        for path, kind in entries(folder, [])
        if kind == FOLDER or path.suffix.lower() in SUFFIXES
    ]
    return FOLDER in found and FILE not in found


def images_of(folder: Path, problems: list[str]) -> list[str]:
    """The names of a class' images, sorted; adds what is wrong to the problems."""
    names = []
    before = len(problems)
    for path, kind in entries(folder, problems):
        if kind == FOLDER:
            problems.append(f"{shown(str(path))}: a folder in a class folder; wanted images")
        elif path.suffix.lower() not in SUFFIXES:
            problems.append(
                f"{shown(str(path))}: no image by its name; wanted one in {', '.join(SUFFIXES)}"
            )
        else:
            names.append(path.name)
    if not names and len(problems) == before:
        problems.append(f"{shown(str(folder))}: no image of this class")
    return names


def images_below(path: Path) -> list[Path]:
    """An image, or all images of a folder and of those in it, sorted; without hidden files.

    Raises:
      ValueError: a folder has none, or cannot be read; or there is nothing of that name.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ValueError(f"{path}: no such image or folder")
    problems: list[str] = []
    found: list[Path] = []
    folders = [path]
    while folders:
        folder = folders.pop()
        for entry, kind in entries(folder, problems):
            if kind == FOLDER:
                folders.append(entry)
            elif entry.suffix.lower() in SUFFIXES:
                found.append(entry)
    tell(problems)
    if not found:
        raise ValueError(f"{path} must have an image in {', '.join(SUFFIXES)} (got none)")
    return sorted(found)


def entries(folder: Path, problems: list[str]) -> Iterator[tuple[Path, str]]:
    """What a folder holds and is not left out, sorted, with its kind: `FOLDER` or `FILE`.

    Links are followed. What is neither, or cannot be looked at, becomes a problem.
    """
    try:
        with os.scandir(folder) as found:
            chosen = sorted(
                (e for e in found if not e.name.startswith(".") and e.name.lower() not in LEFT_OUT),
                key=lambda entry: entry.name,
            )
    except OSError as error:
        problems.append(f"{shown(str(folder))}: {error.strerror}")
        return
    for entry in chosen:
        path = folder / entry.name
        try:
            if entry.is_dir() or entry.is_file():
                yield path, FOLDER if entry.is_dir() else FILE
                continue
            # Opening one that is no regular file, such as a pipe, may never end.
            why = "a link to nothing" if entry.is_symlink() else "no regular file"
        except OSError as error:  # such as a link to itself
            why = error.strerror or str(error)
        problems.append(f"{shown(str(path))}: {why}")
