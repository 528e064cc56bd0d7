"""The three parts of a run's data, before any option takes only some of the images."""

from __future__ import annotations

from pathlib import Path

from ..data import class_folders, class_names, load, public_sets, splits
from ..data.dataset import Dataset, Images
from ..data.image_files import ImageFiles
from ..options.run_options import RunOptions

Splits = splits.Splits[Dataset | ImageFiles]


def whole_parts(options: RunOptions) -> Splits:
    """The three parts before `--per-class` applies.

    Raises:
      ValueError: the data have the wrong form or do not fit the options.
      OSError: the data cannot be read.
    """
    if public_sets.is_public(options.data):
        if options.test_data is not None:
            raise ValueError(
                f"--test-data must not be given with --data {options.data}, which has test images "
                f"of its own (got {options.test_data})"
            )
        train, test = public_sets.read(
            options.data, options.data_dir, options.image_size, options.crop_share
        )
        lists = public_sets.lists_of(options.data)
        return splits.divide(train, test, options.val_fraction, options.seed, lists)
    if own := class_folders.parts_of(options.data):
        return of_divided(options, own)
    train = load.load(options.data, options.image_size, options.crop_share)
    if options.test_data is None:
        train, test = splits.hold_out(train, options.test_fraction, options.seed)
    else:
        called = f"--test-data {options.test_data}"
        test = like(train, options.data, called, options.test_data, options)
    return splits.divide(train, test, options.val_fraction, options.seed)


def of_divided(options: RunOptions, own: dict[str, Path]) -> Splits:
    """The parts of a folder that is divided already. What it lacks is held out of its train part.

    Args:
      options: the run's.
      own: the folders of the parts that it has.
    """
    names = [f"{folder.name}/" for folder in own.values()]
    listed = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    if "train" not in own:
        raise ValueError(
            f"--data {options.data} must have a folder train/ beside {listed} (got none)"
        )
    if "test" in own and options.test_data is not None:
        raise ValueError(
            f"--test-data must not be given with --data {options.data}, which has "
            f"{own['test'].name}/ of its own (got {options.test_data})"
        )
    whole = load.load(str(own["train"]), options.image_size, options.crop_share)
    train, given = whole, str(own["test"]) if "test" in own else options.test_data
    if given is None:
        train, test = splits.hold_out(train, options.test_fraction, options.seed)
    else:
        test = like(whole, str(own["train"]), given, given, options)
    if "val" in own:
        validation = like(whole, str(own["train"]), str(own["val"]), str(own["val"]), options)
    else:
        train, validation = splits.hold_out(train, options.val_fraction, options.seed)
    return splits.Splits(train, validation, test, f"the folder's own {listed}")


def like(
    train: Dataset | ImageFiles, trained: str, called: str, source: str, options: RunOptions
) -> Dataset | ImageFiles:
    """Reads images to validate or test on, of the training images' shape and classes.

    Args:
      train: the training images.
      trained: where they are.
      called: what a message calls the images.
      source: where they are.
      options: the run's.
    """
    # Names of one folder may differ.
    both_exist = Path(source).exists() and Path(trained).exists()
    if source == trained or (both_exist and Path(source).samefile(trained)):
        raise ValueError(
            f"{called} must have other images than the training's (got {trained} again); leave it "
            "out, and a part of the training images is held out"
        )
    name = f"--data {options.data}"
    images = load.load(source, options.image_size, options.crop_share)
    check_shape(images, train.image_shape, called, name)
    return class_names.by_name(images, train.classes, called, name)


def check_shape(images: Images, shape: tuple[int, int, int], source: str, owner: str) -> None:
    """Raises a ValueError unless images have this shape.

    Args:
      images: the images.
      shape: height, width and channels.
      source: what a message calls the images.
      owner: what a message calls the owner of the shape.
    """
    if images.image_shape != shape:
        wanted, got = ("x".join(map(str, each)) for each in (shape, images.image_shape))
        raise ValueError(
            f"the images of {source} must be {wanted}, as those of {owner} (got {got})"
        )
