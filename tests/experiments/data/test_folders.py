"""Folders of image files: every kind of file is converted rightly, or named before training."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from image_files import BOMB, COLOURS_PNG, CONVERTED, JPEG, REFUSED, SIDE, encoded, put
from PIL import Image

from experiments import train
from experiments.data import class_folders, decoding, digests, image_files, load
from experiments.options import cli
from experiments.options.train_options import Config
from experiments.runs import inputs


@pytest.mark.parametrize("name", CONVERTED)
def test_an_image_of_any_kind_is_converted(name, tmp_path):
    content, wanted, off = CONVERTED[name]
    files = class_folders.list_folder(put(tmp_path, {f"a/{name}": content}), SIDE)
    image_files.check([files])
    (found,) = files.load(np.arange(1))
    assert found.shape == wanted.shape
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found, wanted, rtol=0, atol=off + 1e-9)
    crop = files.random_crop(0, np.random.default_rng(0))
    assert crop.shape == wanted.shape


# EXIF's turns of a map of rows and columns, by its specification.
TURNED = {
    1: lambda x: x, 2: lambda x: x[:, ::-1], 3: lambda x: x[::-1, ::-1], 4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1), 6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1), 8: np.rot90,
}  # fmt: skip


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_a_tiff_of_two_sides_is_turned_upright(mode, compression, tmp_path):
    """Also one that Pillow would map into memory, whose rows are then as long as its columns."""
    greys = np.array([[0, 51, 102], [153, 204, 255]], np.uint8)
    image = Image.fromarray(greys)
    if mode == "I;16":
        image = Image.fromarray(greys.astype(np.uint16) * 257)
    elif mode == "CMYK":
        image = Image.merge("CMYK", [Image.new("L", (3, 2))] * 3 + [Image.fromarray(255 - greys)])
    elif mode != "L":
        image = image.convert(mode)
    path = tmp_path / "turned.tif"
    for turn, turned in TURNED.items():
        image.save(path, tiffinfo={274: turn}, compression=compression)
        found = np.asarray(decoding.read(path))
        np.testing.assert_array_equal(found, np.repeat(turned(greys)[..., None], 3, 2), str(turn))


def good(*classes: str, count: int = 4) -> dict[str, bytes]:
    return {f"{name}/{i}.png": COLOURS_PNG for name in classes for i in range(count)}


def refusal(folder: Path, *options: str) -> str:
    """The one line with which a run on such images is refused."""
    line = ["--method=scratch", f"--data={folder}", "--batch-size=2", *options]
    config = cli.parse(Config, "l2t train", [*line, f"--image-size={SIDE}"])
    with pytest.raises(ValueError, match=" ") as caught:
        inputs.load_splits(config)
    return str(caught.value)


@pytest.mark.parametrize("loader", ["memory", "workers"])
@pytest.mark.parametrize("name", REFUSED)
def test_an_image_that_cannot_be_read_is_named_before_training(name, loader, tmp_path):
    content, why = REFUSED[name]
    put(tmp_path, good("a", "b") | {f"b/{name}": content})
    told = refusal(tmp_path, f"--loader={loader}")
    start = f"1 problem with the images: {tmp_path}/b/{name}: "
    assert told.startswith(start)
    assert any(part in told.removeprefix(start) for part in why.split("|"))


@pytest.mark.parametrize("loader", ["memory", "workers"])
def test_all_problems_come_in_one_report(loader, tmp_path, capsys):
    files = good("a", "b") | {f"{'ab'[i % 2]}/{n}": REFUSED[n][0] for i, n in enumerate(REFUSED)}
    (put(tmp_path, files | {"a/README.txt": b""}) / "c").mkdir()
    told = refusal(tmp_path, f"--loader={loader}")
    count = len(REFUSED) + 2
    assert told.startswith(f"{count} problems with the images: {tmp_path}/a/README.txt: ")
    assert told.count(str(tmp_path)) == image_files.TOLD
    assert told.endswith(f"; and {count - image_files.TOLD} more")
    # Headers that are all right and damage behind them, in training and test images.
    for name in REFUSED:
        for path in tmp_path.glob(f"?/{name}"):
            path.unlink()
    (tmp_path / "a" / "README.txt").unlink()
    (tmp_path / "c").rmdir()
    cut = {name: REFUSED[name][0] for name in ("cut.PNG", "cut.JPEG")}
    put(tmp_path, {f"b/{name}": content for name, content in cut.items()})
    test = put(tmp_path.with_name("test"), good("a", "b") | {"a/cut.PNG": cut["cut.PNG"]})
    line = f"--method scratch --data {tmp_path} --test-data {test} --loader {loader} --batch-size 2"
    assert cli.run(train.main, Config, prog="l2t train", args=line.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("train: error: 3 problems with the images: ")
    assert all(str(path) in error for path in (*tmp_path.glob("?/cut.*"), test / "a/cut.PNG"))
    assert "more" not in error
    with pytest.raises(ValueError, match="2 problems with the images: "):
        inputs.to_evaluate(str(tmp_path), tmp_path, SIDE, None)


def test_a_bomb_takes_no_memory(tmp_path):
    """In a process of its own, without the strict warnings of the tests."""
    put(tmp_path, {f"a/{name}": REFUSED[name][0] for name in REFUSED if "bomb" in name})
    program = """
import resource, sys
from pathlib import Path
from experiments.data import class_folders
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    class_folders.list_folder(Path(sys.argv[1]), 16)
except ValueError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    result = subprocess.run(
        [sys.executable, "-c", program, tmp_path],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    told, kilobytes = result.stdout.splitlines()
    assert told.count(BOMB) == 3
    assert result.stderr == ""
    assert int(kilobytes) < 50_000


def link(path: Path, target: object) -> None:
    path.symlink_to(str(target))


# What is done to a folder of the classes a and b, and what of it is told with which reason.
LAYOUTS = {
    "empty class": (lambda f: (f / "c").mkdir(), {"c": "a class must have an image"}),
    "class of hidden files": (
        lambda f: put(f, {"c/.x.png": COLOURS_PNG}),
        {"c": "a class must have an image"},
    ),
    "nested folders": (
        lambda f: put(f, {"a/more/x.png": COLOURS_PNG, "c/images/x.png": COLOURS_PNG}),
        dict.fromkeys(("a/more", "c/images"), "a class folder must hold images (got a folder)"),
    ),
    "folder named like an image": (
        lambda f: (f / "a" / "x.png").mkdir(),
        {"a/x.png": "a class folder must hold images (got a folder)"},
    ),
    "images beside": (
        lambda f: put(f, {"x.png": COLOURS_PNG}),
        {"x.png": "an image must lie in a class folder"},
    ),
    "other files": (
        lambda f: put(f, {"a/README.txt": b"", "b/noext": COLOURS_PNG, "b/x.heic": b""}),
        dict.fromkeys(
            ("a/README.txt", "b/noext", "b/x.heic"),
            "a class folder must hold images (got another suffix than .png",
        ),
    ),
    "links to nothing": (
        lambda f: (link(f / "c", "nowhere"), link(f / "a" / "x.png", "nowhere.png")),
        dict.fromkeys(("c", "a/x.png"), "it links to nothing"),
    ),
    "links to themselves": (
        lambda f: (link(f / "c", "c"), link(f / "a" / "x.png", "x.png")),
        dict.fromkeys(("c", "a/x.png"), "Too many levels of symbolic links"),
    ),
    "link to the folder above": (
        lambda f: link(f / "a" / "up", f),
        {"a/up": "a class folder must hold images (got a folder)"},
    ),
    "JPEG by its names": (
        lambda f: put(f, {"c/README.txt": b"", "a/x.jfif": JPEG, "a/x.jpe": JPEG}),
        {"c/README.txt": "a class folder must hold images (got another suffix"},
    ),
    "pipe": (lambda f: os.mkfifo(f / "a" / "x.png"), {"a/x.png": "it is not a regular file"}),
    "one name in two forms": (
        lambda f: put(f, good("e\u0301", "\u00e9")),
        {"\u00e9": "its name must be unique (another folder has it"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_does_not_belong_into_a_folder_is_named(name, tmp_path):
    change, wanted = LAYOUTS[name]
    change(put(tmp_path, good("a", "b")))
    told = refusal(tmp_path)
    plural = "s" * (len(wanted) > 1)
    assert told.startswith(f"{len(wanted)} problem{plural} with the images: ")
    assert all(f"{tmp_path}/{path}: {why}" in told for path, why in wanted.items())


# Folders of a data set that is divided already: what is in each part, and what is held out.
DIVIDED = {
    "three parts": (
        good("train/a", "train/b", "val/b", "test/a"),
        ("train/, test/ and val/", {"train": "aaaabbbb", "validation": "bbbb", "test": "aaaa"}),
    ),
    "without test": (
        good("Training/a", "Training/b", "validation/a"),
        ("Training/ and validation/", {"train": "aaabbb", "validation": "aaaa", "test": "ab"}),
    ),
    "without val": (
        good("train/a", "train/b", "Testing/b"),
        ("train/ and Testing/", {"train": "aaabbb", "validation": "ab", "test": "bbbb"}),
    ),
    "beside others": (
        good("train/a", "train/b", "test/a", "masks"),
        ("train/ and test/", {"train": "aaabbb", "validation": "ab", "test": "aaaa"}),
    ),
    "train alone": (
        good("train/a", "train/b"),
        ("train/", {"train": "aabb", "validation": "ab", "test": "ab"}),
    ),
}


@pytest.mark.parametrize("loader", ["memory", "workers"])
@pytest.mark.parametrize("name", DIVIDED)
def test_a_folder_that_is_divided_already_is_taken_as_it_is(name, loader, tmp_path):
    files, (parts, wanted) = DIVIDED[name]
    put(tmp_path, files)
    line = f"--method=scratch --batch-size=2 --image-size={SIDE} --loader={loader}".split()
    splits = inputs.load_splits(
        cli.parse(Config, "l2t train", [*line, f"--data={tmp_path}", "--test-fraction=0.25"])
    )
    found = {
        part: "".join("ab"[label] for label in getattr(splits, part).labels) for part in wanted
    }
    assert found == wanted
    assert splits.division == f"the folder's own {parts}"
    # The files' names tell the same, and no image is in two parts.
    named = ["".join(Path(path).parent.name for path in part) for part in splits.files]
    assert named == list(wanted.values())
    every = [path for part in splits.files for path in part]
    assert len(set(every)) == len(every)
    assert all(Path(path).is_file() for path in every)


def test_what_a_divided_folder_lacks_or_has_twice_is_told(tmp_path):
    put(
        tmp_path,
        good("whole/train/a", "whole/train/b", "whole/test/a", "rest/val/a", "rest/test/a"),
    )
    put(tmp_path, good("wrong/train/a", "wrong/train/b", "wrong/test/c"))
    whole, rest, wrong = tmp_path / "whole", tmp_path / "rest", tmp_path / "wrong"
    told = refusal(whole, f"--test-data={whole}/test")
    assert f"--test-data must not be given with --data {whole}, which has test/ of its own" in told
    assert refusal(rest) == (
        f"--data {rest} must have a folder train/ beside test/ and val/ (got none)"
    )
    assert f"the classes of {wrong}/test must be among those of --data {wrong}" in refusal(wrong)
    # Where one part is asked for, it must be given; but to evaluate, test/ is taken.
    told = refusal(whole / "train", f"--test-data={whole}")
    assert told.startswith(f"{whole} must hold one folder a class (got train/, test/, which look")
    assert told.endswith("give one of these folders")
    shutil.rmtree(wrong / "test")
    put(wrong, good("val/a"))
    with pytest.raises(ValueError, match="give one of these folders"):
        inputs.to_evaluate(str(wrong), tmp_path, SIDE, None)
    assert len(inputs.to_evaluate(str(whole), tmp_path, SIDE, None).labels) == 4
    put(whole, good("valid/a", "val/b"))
    assert refusal(whole) == (
        f"{whole} must have one folder for val (got val/, valid/); move one away"
    )
    shutil.rmtree(whole / "valid")
    shutil.rmtree(whole / "val")
    # What is trained on tests nothing, whatever it is called.
    (tmp_path / "same").symlink_to(whole / "train")
    for name in (f"{whole}/train", f"{whole}/test/../train", f"{tmp_path}/same"):
        told = refusal(whole / "train", f"--test-data={name}")
        assert told.startswith(f"--test-data {name} must have other images than the training's")
    shutil.rmtree(whole / "test")
    assert "must have other images" in refusal(whole, f"--test-data={tmp_path}/same")


def test_a_runs_folder_may_not_lie_among_the_images(tmp_path, monkeypatch):
    put(tmp_path, good("flat/a", "flat/b", "divided/train/a", "divided/train/b"))
    monkeypatch.chdir(tmp_path / "flat")

    def check(**options):
        Config(method="scratch", **options).check_files()

    for data, folder in ((".", None), ("../flat", "a/run"), ("../divided", "../divided/train/run")):
        with pytest.raises(ValueError, match="--run-dir must not lie in --data"):
            check(data=data, run_dir=folder and Path(folder))
    with pytest.raises(ValueError, match="--run-dir must not lie in --unlabelled"):
        check(unlabelled=".")
    check(data=".", run_dir=Path("../run"))
    check(data=".", run_dir=Path(".hidden/run"))
    check(data="../divided", run_dir=Path("../divided/runs/one"))
    assert Config(method="scratch", data=".").name() == "scratch-flat-0"


def test_classes_may_be_called_like_parts(tmp_path):
    """A train is a vehicle."""
    put(tmp_path, good("train", "bus", "test"))
    assert class_folders.list_folder(tmp_path, SIDE).classes == ("bus", "test", "train")


def test_what_may_not_be_read_is_named(tmp_path, monkeypatch):
    """Whoever runs the tests may read all."""
    put(tmp_path, good("a", "b"))

    def forbid(module, name, *forbidden):
        work = getattr(module, name)

        def checked(path, *args, **options):
            if path in forbidden:
                raise PermissionError(13, "Permission denied", str(path))
            return work(path, *args, **options)

        monkeypatch.setattr(module, name, checked)

    forbid(Path, "open", tmp_path / "a" / "1.png")
    forbid(class_folders.os, "scandir", tmp_path / "b")
    assert refusal(tmp_path) == (
        f"2 problems with the images: {tmp_path}/b: Permission denied; "
        f"{tmp_path}/a/1.png: Permission denied"
    )


def test_what_systems_leave_behind_is_left_out_and_links_are_followed(tmp_path):
    left = ("README.md", "labels.csv", ".DS_Store", ".git/x.png", "__MACOSX/a/._0.png")
    left += ("a/.DS_Store", "a/._0.png", "a/Thumbs.db", "b/desktop.ini")
    put(tmp_path / "data", good("a", "b", count=1) | dict.fromkeys(left, b"\0"))
    put(tmp_path / "elsewhere", {"0.png": COLOURS_PNG})
    link(tmp_path / "data" / "c", tmp_path / "elsewhere")
    link(tmp_path / "data" / "a" / "1.png", tmp_path / "elsewhere" / "0.png")
    files = class_folders.list_folder(tmp_path / "data", SIDE)
    assert files.names.tolist() == ["a/0.png", "a/1.png", "b/0.png", "c/0.png"]
    assert files.labels.tolist() == [0, 0, 1, 2]
    assert files.load(np.arange(4)).shape == (4, SIDE, SIDE, 3)


def test_links_that_lead_back_are_followed_once(tmp_path):
    put(tmp_path, {"a/0.png": COLOURS_PNG, "a/b/1.PNG": COLOURS_PNG, "a/c.heic": b"", "d": b""})
    for name in ("a/back", "a/again", "a/b/up"):
        (tmp_path / name).symlink_to(tmp_path)
    left_out = []
    found = class_folders.images_below(tmp_path, left_out)
    assert [path.name for path in found] == ["0.png", "1.PNG"]
    assert sorted(path.name for path in left_out) == ["c.heic", "d"]


NAMES = (
    "قطة",
    "猫",
    "🐈‍⬛",
    "e\u0301",
    "ñandú",
    " ",
    "a b  c",
    "line\nend",
    "a;b",
    "%s{}",
    "\udcff",
)


def test_names_may_be_in_any_script(tmp_path):
    """Also in none: the last is a byte that is no text."""
    contents = {n: encoded(np.full((4, 4), 20 * i, np.uint8), "PNG") for i, n in enumerate(NAMES)}
    put(tmp_path, {f"{n}/{n}{i}.png": contents[n] for n in NAMES for i in range(3)})
    files = class_folders.list_folder(tmp_path, SIDE)
    assert set(files.classes) == {n.replace("e\u0301", "\u00e9") for n in NAMES}
    assert list(files.classes) == sorted(files.classes)
    greys = {n.replace("e\u0301", "\u00e9"): 20 * i for i, n in enumerate(NAMES)}
    found = files.load(np.arange(len(files.labels)))[:, 0, 0, 0]
    assert found.tolist() == [greys[files.classes[label]] for label in files.labels]
    assert len(digests.of_images([files])) == 64
    put(tmp_path, {f"{name}/{name}.png": b"" for name in NAMES})
    told = refusal(tmp_path)
    assert told.startswith("11 problems")
    assert told.encode()  # can be printed
    assert f"{tmp_path}/猫/猫.png: the file is empty" in told


def test_classes_of_test_data_are_known_by_their_names(tmp_path):
    """In whichever form a system writes them."""
    train_data = put(tmp_path / "train", good("e\u0301", "f"))
    test_data = put(tmp_path / "test", good("\u00e9", "f"))
    line = f"--method scratch --data {train_data} --test-data {test_data} --batch-size 2"
    splits = inputs.load_splits(cli.parse(Config, "l2t train", line.split()))
    assert splits.train.classes == splits.test.classes == ("f", "\u00e9")
    put(test_data, good("g"))
    told = refusal(train_data, f"--test-data={test_data}")
    assert f"the classes of --test-data {test_data} must be among those of --data" in told
    assert "(got g): " in told
    assert told.endswith(f"has f, g, \u00e9; --data {train_data} has f, \u00e9")


def test_one_class_is_nothing_to_train_on_but_to_test_on(tmp_path):
    put(tmp_path, good("a"))
    assert refusal(tmp_path).startswith(f"--data {tmp_path} must have two classes or more")
    test = put(tmp_path.with_name("train"), good("a", "b"))
    line = f"--method scratch --data {test} --test-data {tmp_path} --batch-size 2"
    splits = inputs.load_splits(cli.parse(Config, "l2t train", line.split()))
    assert splits.test.labels.tolist() == [0] * 4
    assert "must hold one folder a class (got no folder)" in refusal(tmp_path / "a")
    (only,) = load.in_memory(inputs.to_evaluate(str(tmp_path), tmp_path, SIDE, None))
    assert only.images.shape == (4, SIDE, SIDE, 3)
