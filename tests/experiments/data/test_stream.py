"""Folders of images that are decoded as they are needed, by worker processes."""

import json

import numpy as np
import pytest
from conftest import quick_compiler
from messages import says
from PIL import Image

from experiments import evaluate, train
from experiments.data import class_folders, crops, image_files, in_memory, load, workers
from experiments.options import cli
from experiments.options.train_options import Config
from experiments.runs import inputs
from experiments.system import devices

CLASSES = ("dark", "light")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes of JPEGs of several sizes, told apart by their brightness."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        (root / name).mkdir()
        for i in range(15):
            pixels = rng.integers(0, 100, (20 + i, 40 - i, 3)) + 150 * label
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{i}.jpg", quality=95)
    return root


def from_files(files, processes, *, augment=False, seed=3, batch_size=8):
    return workers.FromFiles(
        files,
        devices.one_device(),
        batch_size,
        seed,
        epochs=2,
        augment=augment,
        workers=processes,
    )


def epochs(training, numbers=(0, 1)):
    """Images and labels of these epochs, ``[epochs, steps, batch, ...]``."""
    batches = [list(training.epoch(number)) for number in numbers]
    return [np.array([[getattr(b, name) for b in epoch] for epoch in batches])
            for name in ("images", "labels")]  # fmt: skip


def collect(*args, **options):
    training = from_files(*args, **options)
    try:
        return epochs(training)
    finally:
        training.close()


def test_workers_give_the_same_images_as_a_thread_and_as_memory(photos):
    files = class_folders.list_folder(photos, 16)
    images, labels = collect(files, 2)
    assert images.shape == (2, 4, 8, 16, 16, 3)
    assert images.dtype == np.uint8
    memory = in_memory.InMemory(
        *load.in_memory(files), devices.one_device(), batch_size=8, seed=3, augment=False
    )
    for other in (collect(files, 0), epochs(memory)):
        np.testing.assert_array_equal(images, other[0])
        np.testing.assert_array_equal(labels, other[1])


def test_every_image_comes_and_the_seed_makes_the_order(photos):
    files = class_folders.list_folder(photos, 16)
    images, _ = collect(files, 0)
    wanted = {image.tobytes() for image in files.load(np.arange(30))}
    assert len(wanted) == 30
    for epoch in images:
        assert {image.tobytes() for batch in epoch for image in batch} == wanted
    assert not np.array_equal(images[0], images[1])
    np.testing.assert_array_equal(collect(files, 0)[0], images)
    assert not np.array_equal(collect(files, 0, seed=4)[0], images)


def test_augmentation_depends_on_the_seed_and_not_on_the_workers(photos):
    files = class_folders.list_folder(photos, 16)
    images, labels = collect(files, 0, augment=True)
    plain, plain_labels = collect(files, 0)
    np.testing.assert_array_equal(labels, plain_labels)
    assert not np.any([np.array_equal(a, b) for a, b in zip(images[0], plain[0], strict=True)])
    np.testing.assert_array_equal(collect(files, 2, augment=True)[0], images)
    assert not np.array_equal(collect(files, 0, augment=True, seed=4)[0], images)


def test_any_epoch_can_be_begun_with(photos):
    training = from_files(class_folders.list_folder(photos, 16), 0, augment=True)
    first, second = (epochs(training, [number])[0] for number in (0, 1))
    again, before = (epochs(training, [number])[0] for number in (1, 0))
    training.close()
    np.testing.assert_array_equal(second, again)
    np.testing.assert_array_equal(first, before)


def test_a_process_decodes_its_own_rows_alone(photos):
    files = class_folders.list_folder(photos, 16)
    whole, mine = (
        workers.Batches(files, np.array(rows), 8, 3, epochs=2, augment=True)
        for rows in (range(8), [2, 3, 6, 7])
    )
    assert len(mine) == len(whole) == 8
    for number in (0, 3, 5):
        for name in ("images", "labels"):
            np.testing.assert_array_equal(mine[number][name], whole[number][name][[2, 3, 6, 7]])


def test_random_crops_lie_in_the_image_and_have_the_published_sizes():
    rng = np.random.default_rng(0)
    boxes = np.array([crops.random_box((300, 200), rng) for _ in range(500)])
    left, top, width, height = boxes.T
    assert (left >= 0).all()
    assert (top >= 0).all()
    assert (left + width <= 300 + 1e-9).all()
    assert (top + height <= 200 + 1e-9).all()
    share, ratio = width * height / 60000, width / height
    assert 0.08 <= share.min() < 0.1
    assert 0.8 < share.max() <= 1
    assert 0.75 <= ratio.min() < 0.8
    assert 1.25 < ratio.max() <= 4 / 3 + 1e-9
    for size in ((1000, 10), (10, 1000)):  # no draw fits: the centre
        left, top, width, height = crops.random_box(size, rng)
        np.testing.assert_allclose([left + width / 2, top + height / 2], np.array(size) / 2)
        assert (width, height) == pytest.approx((40 / 3, 10) if size[0] > 10 else (10, 40 / 3))


def test_the_centre_crop_keeps_its_share(tmp_path):
    """Of 64 x 80 pixels, the crop that keeps 7/8 of the shorter side shows 56 x 56."""
    pixels = np.zeros((64, 80, 3), np.uint8)
    pixels[4:60, 12:68] = 255
    (tmp_path / "a").mkdir()
    Image.fromarray(pixels).save(tmp_path / "a" / "0.png")
    assert class_folders.list_folder(tmp_path, 56, 0.875).load(np.array([0])).min() == 255
    assert class_folders.list_folder(tmp_path, 56).load(np.array([0])).min() == 0
    assert class_folders.list_folder(tmp_path, 224).crop_share == 0.875


@pytest.mark.parametrize(
    ("options", "images", "expected"),
    [
        ({}, 10, False),
        ({"image_size": 224}, 10, True),
        ({"image_size": 64}, 200_000, True),
        ({"loader": "workers"}, 10, True),
        ({"augment": "resized-crop"}, 10, True),
        ({"image_size": 224, "augment": "none"}, 10, True),
        ({"image_size": 224, "augment": "crop-flip"}, 10, False),
        ({"image_size": 224, "loader": "memory"}, 10, False),
    ],
)
def test_workers_are_for_large_sets(photos, options, images, expected):
    assert inputs.by_workers(Config(data=str(photos), **options), images, in_files=True) == expected
    assert not inputs.by_workers(Config(data="digits", image_size=224), images, in_files=False)


@quick_compiler()
def run(*args: object) -> int:
    return cli.run(train.main, Config, prog="l2t train", args=[str(a) for a in args])


OPTIONS = ("--method", "scratch", "--target", "resnet8", "--image-size", 8, "--batch-size", 6,
           "--val-fraction", 0.2, "--loader", "workers", "--workers", 2)  # fmt: skip


@pytest.mark.slow
def test_the_command_trains_by_workers(photos, tmp_path, capsys, interrupt):
    """However many there are, and wherever the run is cut."""
    folder, cut = tmp_path / "run", tmp_path / "cut"
    line = [*OPTIONS, "--data", photos, "--epochs", 3]
    assert run(*line, "--run-dir", folder) == 0
    interrupt(6)
    assert run(*line, "--workers", 1, "--run-dir", cut) == 143
    interrupt(0)
    assert run(*line, "--workers", 3, "--run-dir", cut) == 0
    whole, again = ((path / "target.safetensors").read_bytes() for path in (folder, cut))
    assert whole == again
    assert "on 20 training, 4 validation and 6 test images" in capsys.readouterr().out
    lines, others = (
        [json.loads(line) | {"seconds": 0} for line in text.splitlines()]
        for text in ((path / "metrics.jsonl").read_text() for path in (folder, cut))
    )
    assert lines == others
    assert lines[-1]["train"]["loss"] < lines[0]["train"]["loss"]
    options = ("--network", "resnet8", "--weights", str(folder / "target.safetensors"))
    options += ("--data", str(photos), "--image-size", "8")
    assert cli.run(evaluate.main, evaluate.Options, prog="l2t evaluate", args=list(options)) == 0
    assert " of 30 right" in capsys.readouterr().out


def test_broken_images_are_named_before_training(photos, tmp_path, capsys):
    """All of them, also those whose header is whole, and of a training part in workers' hands."""
    (tmp_path / "data").mkdir()
    for name in CLASSES:
        (tmp_path / "data" / name).symlink_to(photos / name)
    (tmp_path / "data" / "broken").mkdir()
    broken = [tmp_path / "data" / "broken" / f"{i}.jpg" for i in range(5)]
    whole = (photos / "dark" / "0.jpg").read_bytes()
    for path in broken:
        path.write_bytes(whole[: len(whole) // 2])
    options = (*OPTIONS, "--data", tmp_path / "data", "--epochs", 1)
    assert run(*options, "--run-dir", tmp_path / "run") == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("train: error: 5 problems with the images: ")
    assert all(f"{path}: image file is truncated" in error for path in broken)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_breaks_in_the_middle_of_a_run_is_named(photos, tmp_path, workers):
    (tmp_path / "a").mkdir()
    for i in range(8):
        (tmp_path / "a" / f"{i}.jpg").symlink_to(photos / "dark" / f"{i}.jpg")
    files = class_folders.list_folder(tmp_path, 16)
    image_files.check([files])
    (tmp_path / "a" / "3.jpg").unlink()
    with pytest.raises(ValueError, match=rf"{tmp_path}/a/3\.jpg: No such file or directory"):
        collect(files, workers)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--loader workers", "--loader workers needs images in files (got --data digits"),
        ("--augment resized-crop", "--augment resized-crop needs images in files"),
        ("--loader workers --augment crop-flip", "--augment must be … workers (got crop-flip)"),
        ("--loader memory --augment resized-crop", "--augment must be … memory (got resized-crop)"),
        ("--workers -1", "--workers must be … (got -1)"),
        ("--crop-share 1.5", "--crop-share must be … (got 1.5)"),
        ("--crop-share 0", "--crop-share must be … (got 0.0)"),
    ],
)
def test_options_that_do_not_go_together_are_refused(line, message, capsys, tmp_path):
    assert run("--method", "scratch", *line.split(), "--run-dir", tmp_path / "run") == 2
    assert says(capsys.readouterr().err, message)
