"""Lists a folder of class folders, and reports all its problems at once."""

from __future__ import annotations

import itertools
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
# Common names of the parts of a data set that is divided already.
PARTS = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "val": ("val", "valid", "validation", "dev"),
}
# Files that operating systems leave behind, apart from hidden ones.
LEFT_OUT = {"thumbs.db", "desktop.ini", "__macosx"}
FOLDER, FILE = "folder", "file"


def list_folder(root: Path, size: int, crop_share: float | None = None) -> ImageFiles:
    """Lists a folder of class folders, and reads the header of every image.

    These files are skipped: hidden ones, those that operating systems leave behind, and files
    beside the class folders that are not images. Everything else must be an image in a class
    folder. Class names are converted to Unicode's composed form, so they compare and sort alike
    whichever system wrote them.

    Args:
      root: the folder.
      size: side in pixels that images are scaled to.
      crop_share: how much of the shorter side the centre crop keeps; None for the default, see
        `crops.share_for`.

    Returns:
      The files.

    Raises:
      ValueError: the message lists all problems: files in wrong places, classes without an image,
        and unreadable images. If there is any problem, every image is decoded to find the rest.
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
    """The class folders by class name, sorted. Adds what it finds wrong to the problems."""
    found: dict[str, Path] = {}
    for path, kind in entries(root, problems):
        if kind == FOLDER:
            name = unicodedata.normalize("NFC", path.name)
            if name in found:
                problems.append(
                    f"{shown(str(path))}: its name must be unique (another folder has it in "
                    "another form of Unicode)"
                )
            found[name] = path
        elif path.suffix.lower() in SUFFIXES:
            problems.append(f"{shown(str(path))}: an image must lie in a class folder")
    if not found:
        problems.append(f"{root} must hold one folder a class (got no folder)")
    return dict(sorted(found.items()))


def check_classes(root: Path, classes: dict[str, Path]) -> None:
    """Raises a ValueError where class folders look like the parts of a divided data set."""
    if found := parts_among(classes):
        got = ", ".join(f"{folder.name}/" for folder in found.values())
        raise ValueError(
            f"{root} must hold one folder a class (got {got}, which look like parts of a data set "
            "that is divided already); give one of these folders"
        )


def parts_of(source: str) -> dict[str, Path]:
    """The folders ``train``, ``test`` and ``val`` of a folder that is divided already.

    There may be fewer. Of data of another kind, such as a folder of class folders, there are none.
    """
    root = Path(source)
    return parts_among(class_folders(root, [])) if root.is_dir() else {}


def parts_among(folders: dict[str, Path]) -> dict[str, Path]:
    """Folders that are parts of a divided data set, by part; empty if they are classes.

    They are parts if they are named like parts, and there are no other folders or they hold only
    folders.

    Raises:
      ValueError: two folders are named like one part.
    """
    named = [
        (part, folder)
        for part, names in PARTS.items()
        for name, folder in folders.items()
        if name.lower() in names
    ]
    nested = any(holds_folders_alone(folder) for _, folder in named)
    if not nested and not len(named) == len(folders) > 1:
        return {}
    for (part, folder), (next_part, other) in itertools.pairwise(named):
        if part == next_part:
            raise ValueError(
                f"{folder.parent} must have one folder for {part} (got {folder.name}/, "
                f"{other.name}/); move one away"
            )
    return dict(named)


def holds_folders_alone(folder: Path) -> bool:
    """Whether a folder holds folders and no image."""
    found = [
        kind
        for path, kind in entries(folder, [])
        if kind == FOLDER or path.suffix.lower() in SUFFIXES
    ]
    return FOLDER in found and FILE not in found


def images_of(folder: Path, problems: list[str]) -> list[str]:
    """The names of a class' images, sorted. Adds what it finds wrong to the problems."""
    names = []
    before = len(problems)
    for path, kind in entries(folder, problems):
        if kind == FOLDER:
            problems.append(f"{shown(str(path))}: a class folder must hold images (got a folder)")
        elif path.suffix.lower() not in SUFFIXES:
            problems.append(
                f"{shown(str(path))}: a class folder must hold images (got another suffix than "
                f"{', '.join(SUFFIXES)})"
            )
        else:
            names.append(path.name)
    if not names and len(problems) == before:
        problems.append(f"{shown(str(folder))}: a class must have an image (got none)")
    return names


def images_below(path: Path, left_out: list[Path] | None = None) -> list[Path]:
    """An image, or all images in a folder and its subfolders, sorted. Hidden files are skipped.

    Args:
      path: the image, or the folder. A folder that links lead to again is read once.
      left_out: takes the files whose suffix is none of `SUFFIXES`.

    Raises:
      ValueError: there is no such file, a folder holds no image, or it cannot be read.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ValueError(f"{path}: no such image or folder")
    problems: list[str] = []
    found: list[Path] = []
    folders, seen = [path], {path.resolve()}
    while folders:
        folder = folders.pop()
        for entry, kind in entries(folder, problems):
            if kind == FOLDER:
                if (real := entry.resolve()) not in seen:
                    seen.add(real)
                    folders.append(entry)
            elif entry.suffix.lower() in SUFFIXES:
                found.append(entry)
            elif left_out is not None:
                left_out.append(entry)
    tell(problems)
    if not found:
        raise ValueError(f"{path} must have an image in {', '.join(SUFFIXES)} (got none)")
    return sorted(found)


def looks_into(root: Path, folder: Path) -> bool:
    """Whether a folder lies in ``root``, and in no hidden folder there, which would be skipped."""
    root, folder = root.resolve(), folder.resolve()
    if not folder.is_relative_to(root):
        return False
    return not any(part.startswith(".") for part in folder.relative_to(root).parts)


def entries(folder: Path, problems: list[str]) -> Iterator[tuple[Path, str]]:
    """The entries of a folder that are not skipped, sorted, each with its kind: `FOLDER` or `FILE`.

    Links are followed. An entry of another kind, or an unreadable one, becomes a problem.
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
            # Opening a file of another kind, such as a pipe, may never end.
            why = "it links to nothing" if entry.is_symlink() else "it is not a regular file"
        except OSError as error:  # such as a link to itself
            why = error.strerror or str(error)
        problems.append(f"{shown(str(path))}: {why}")
