"""Public image sets: miniatures in the official form, and the published split."""

import re
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import quick_compiler
from PIL import Image
from scipy.io import savemat

from experiments import evaluate, train
from experiments.data import public_sets, splits
from experiments.data.dataset import Dataset
from experiments.data.image_files import ImageFiles
from experiments.networks import zoo
from experiments.networks.layer_pairs import choose_pairs
from experiments.options import cli, tasks
from experiments.options.train_options import Config
from experiments.runs import inputs
from experiments.system.errors import RunFailedError
from experiments.training import loop
from l2t_jax import Network, Variables, output_shapes

CLASSES = ("a", "b_c")
COUNT = {"train": 6, "test": 2}  # images a class


def save(path: Path, grey: int) -> None:
    """An image all of one grey, which says its class and its number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 24), (grey,) * 3).save(path)


def grey_of(label: int, part: str, i: int) -> int:
    return 100 * label + 50 * (part == "test") + 5 * i


def samples():
    """Class number, class, part, number and grey of every image, not in order."""
    rows = [(k, c, p, i, grey_of(k, p, i))
            for k, c in enumerate(CLASSES) for p, n in COUNT.items() for i in range(n)]  # fmt: skip
    return [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]


def write_lists(folder: Path, lists: dict[str, list[str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in lists.items():
        (folder / name).write_text("\n".join(rows) + "\n", encoding="utf-8")


def make(name: str, data_dir: Path) -> None:
    """Writes a miniature of a public set in its official form."""
    root, rows = data_dir / public_sets.SETS[name].folder, samples()
    train = [r for r in rows if r[2] == "train"]
    test = [r for r in rows if r[2] == "test"]
    file = "{0[1]}/{0[2]}{0[3]}.png".format
    if name in ("mit67", "cub200", "dogs"):
        for row in rows:
            save(root / ("images" if name == "cub200" else "Images") / file(row), row[4])
    if name == "mit67":
        write_lists(root, {"TrainImages.txt": [*map(file, train)],
                           "TestImages.txt": [*map(file, test)]})  # fmt: skip
    elif name == "cub200":
        write_lists(root, {
            "images.txt": [f"{i} {file(r)}" for i, r in enumerate(rows, 1)],
            "train_test_split.txt": [f"{i} {int(r in train)}" for i, r in enumerate(rows, 1)],
        })  # fmt: skip
    elif name == "dogs":
        for part, chosen in (("train", train), ("test", test)):
            cells = np.empty((len(chosen), 1), object)
            cells[:, 0] = [*map(file, chosen)]
            savemat(root / f"{part}_list.mat", {"file_list": cells})
    elif name == "stanford40":
        flat = "{0[1]}_{0[2]}{0[3]}.png".format
        for row in rows:
            save(root / "JPEGImages" / flat(row), row[4])
        write_lists(root / "ImageSplits", {
            f"{c}_{p}.txt": [flat(r) for r in rows if r[1:3] == (c, p)]
            for c in CLASSES for p in COUNT
        })  # fmt: skip
    elif name == "tinyimagenet":
        for row in rows:
            folder = f"train/{row[1]}/images" if row[2] == "train" else "val/images"
            save(root / folder / f"{row[1]}{row[3]}.png", row[4])
        write_lists(root, {"wnids.txt": [*CLASSES[::-1]]})
        write_lists(root / "val", {
            "val_annotations.txt": [f"{r[1]}{r[3]}.png\t{r[1]}\t0\t0\t9\t9" for r in test]
        })  # fmt: skip
    else:
        make_binary(name, root, train, test)


def make_binary(name: str, root: Path, train: list, test: list) -> None:
    """CIFAR's and STL-10's binary versions; the upper left pixel alone is red."""
    root.mkdir(parents=True)
    side = 96 if name == "stl10" else 32
    parts = {"train": train, "test": test}
    for part, rows in parts.items():
        images = np.stack([np.full((side, side, 3), r[4], np.uint8) for r in rows])
        images[:, 0, : side // 2] = 255, 0, 0
        labels = np.array([[r[0]] for r in rows], np.uint8)
        if name == "stl10":
            images.transpose(0, 3, 2, 1).tofile(root / f"{part}_X.bin")
            (labels + 1).tofile(root / f"{part}_y.bin")
            continue
        planes = images.transpose(0, 3, 1, 2).reshape(len(rows), -1)
        coarse = [labels + 7] if name == "cifar100" else []
        records = np.concatenate([*coarse, labels, planes], axis=1)
        if name == "cifar100":
            records.tofile(root / f"{part}.bin")
        elif part == "test":
            records.tofile(root / "test_batch.bin")
        else:
            for i, piece in enumerate(np.array_split(records, 5), 1):
                piece.tofile(root / f"data_batch_{i}.bin")
    lists = {"cifar10": "batches.meta.txt", "cifar100": "fine_label_names.txt"}
    write_lists(root, {lists.get(name, "class_names.txt"): [*CLASSES]})


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Of a network and a number of classes a file of weights, all zeros."""
    folder = tmp_path_factory.mktemp("weights")

    def write(name: str, classes: int) -> Path:
        path = folder / f"{name}-{classes}.safetensors"
        if not path.exists():
            like = shapes(zoo.network(name, classes), 32)
            zoo.save(path, jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like))
        return path

    return write


def shapes(network: Network, side: int) -> Variables:
    """The shapes of a network's variables."""
    images = jax.ShapeDtypeStruct((2, side, side, 3), np.float32)
    return jax.eval_shape(network.init, jax.random.key(0), images)


@pytest.mark.parametrize("name", public_sets.SETS)
def test_a_set_is_read_in_its_official_form(name, tmp_path):
    make(name, tmp_path)
    wanted = public_sets.SETS[name]
    parts = wanted.read(tmp_path / wanted.folder, 96 if name == "stl10" else 32, None)
    for part, images in zip(COUNT, parts, strict=True):
        pixels = images.load(np.arange(len(images.labels)))
        greys = [grey_of(k, part, i) for k in range(2) for i in range(COUNT[part])]
        assert images.classes == CLASSES
        assert sorted(pixels[:, -1, -1, 1].tolist()) == greys
        np.testing.assert_array_equal(pixels[:, -1, -1, 0] // 100, images.labels)
        if isinstance(images, Dataset):  # red above left, and not right or below
            np.testing.assert_array_equal(pixels[:, 0, 0] - [255, 0, 0], 0 * pixels[:, 0, 0])
            assert (pixels[:, 0, -1] == pixels[:, -1, 0]).all()
        elif wanted.split:  # the published lists count sorted names
            assert pixels[:, -1, -1, 1].tolist() == greys


@pytest.mark.parametrize("name", ["cifar100", "dogs"])
def test_a_network_is_evaluated_on_a_sets_own_test_images(name, weights, tmp_path, capsys):
    make(name, tmp_path)
    file = tmp_path / "predictions.npz"
    line = (f"--network resnet8 --weights {weights('resnet8', 2)} --data {name} "
            f"--data-dir {tmp_path} --predictions {file}")  # fmt: skip
    with quick_compiler():
        assert cli.run(evaluate.main, evaluate.Options, prog="l2t evaluate", args=line.split()) == 0
    # All logits of a network of zeros are alike: it says class 0, which half of the images are.
    first, warning, heading, *by_class = capsys.readouterr().out.splitlines()
    assert first.startswith("2 of 4 right: 50.00 % (the 2 classes taken by order")
    assert warning.startswith("warning: only 4 labelled images")
    assert heading.startswith("class ")
    figures = [re.search(r" ([\d.]+) % +(\d+) (\d+) ", line).groups() for line in by_class]
    assert figures == [("0.0", "0", "2"), ("100.0", "2", "2")]
    assert np.load(file)["predictions"].tolist() == [0] * 4
    line = line.replace(f"--data-dir {tmp_path}", f"--data-dir {tmp_path / 'none'}")
    assert cli.run(evaluate.main, evaluate.Options, prog="l2t evaluate", args=line.split()) == 2
    assert f"evaluate: error: {name} must be unpacked in" in capsys.readouterr().err


# Of each public set its classes, its official training and test images, and a checksum of the
# published lists, which are as the paper used them.
PUBLISHED = {
    "cifar100": (100, 50000, 10000, 0xEAFDC786),
    "stl10": (10, 5000, 8000, 0x22AABD03),
    "cub200": (200, 5994, 5794, 0xCD5F8BFC),
    "dog": (120, 12000, 8580, 0x61924F8B),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_split_is_the_papers_whole_and_disjoint(name):
    classes, training, test, checksum = PUBLISHED[name]
    lists = splits.published(name)
    assert zlib.crc32(np.concatenate(lists).astype("<i4").tobytes()) == checksum
    np.testing.assert_array_equal(np.sort(np.concatenate(lists[:2])), np.arange(training))
    np.testing.assert_array_equal(np.sort(lists.test), np.arange(test))
    # A tenth is for validation; of the birds five a class.
    assert len(lists.validation) == (5 * classes if name == "cub200" else training // 10)


def test_the_published_validation_images_are_balanced_over_the_classes():
    """In the two sets whose official order is that of the classes."""
    dogs = splits.published("dog").validation // 100  # 100 a class
    np.testing.assert_array_equal(np.bincount(dogs), np.full(120, 10))
    # 30 birds a class but for six classes of 29: where a class begins is known up to six.
    birds = np.sort(splits.published("cub200").validation).reshape(200, 5)
    start = 30 * np.arange(200)[:, None]
    assert (birds >= start - 6).all()
    assert (birds < start + 30).all()


@pytest.mark.parametrize("name", ["stl10", "cub200"])
def test_a_whole_set_is_divided_by_the_published_lists_and_others_with_the_seed(
    name, tmp_path, monkeypatch
):
    make(name, tmp_path)
    train, test = (2 * n for n in COUNT.values())

    def load() -> splits.Splits:
        parts = public_sets.read(name, tmp_path, 32, None)
        return splits.divide(*parts, 0.2, 0, public_sets.lists_of(name))

    def values(images: Dataset | ImageFiles) -> list[int]:
        return images.load(np.arange(len(images.labels)))[:, -1, -1, 1].tolist()

    small = load()
    assert small.division.startswith("a seeded split: the published one is for all ")
    assert [len(part.labels) for part in small[:3]] == [train - 2, 2, test]
    lists = splits.Indices(np.arange(3, train), np.arange(3), np.arange(test))
    monkeypatch.setattr(splits, "published", {name: lists}.__getitem__)
    whole = load()
    assert whole.division == "the published split"
    found = public_sets.SETS[name].read(tmp_path / public_sets.SETS[name].folder, 32, None)
    assert values(whole.validation) + values(whole.train) == values(found[0])
    assert values(whole.test) == values(found[1])


@pytest.mark.parametrize("name", public_sets.SETS)
def test_a_set_that_is_not_there_is_told_first_with_where_to_put_it(
    name, tmp_path, capsys, monkeypatch
):
    """Nothing is downloaded, and no network is built before it is told."""
    monkeypatch.setattr(Network, "init", None)
    line = f"--method scratch --data {name} --data-dir {tmp_path} --run-dir {tmp_path / 'run'}"
    assert cli.run(train.main, Config, prog="l2t train", args=line.split()) == 2
    wanted = public_sets.SETS[name]
    assert (
        f"{name} must be unpacked in {tmp_path / wanted.folder} (got no such folder); unpack "
        f"{wanted.archive} there"
    ) in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_what_is_missing_is_told(tmp_path):
    make("mit67", tmp_path)
    (tmp_path / "mit67/Images/a/train3.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"all 16 listed .*got 15; a/train3\.png"):
        public_sets.read("mit67", tmp_path, 32, None)


@pytest.mark.parametrize("loader", ["memory", "workers"])
def test_a_sets_broken_images_are_named_together(loader, tmp_path):
    """Before training, whichever part they are of."""
    make("mit67", tmp_path)
    broken = [tmp_path / "mit67/Images" / name for name in ("a/train3.png", "b_c/test0.png")]
    for path in broken:
        path.write_bytes(path.read_bytes()[:60])
    line = f"--method scratch --data mit67 --data-dir {tmp_path} --batch-size 2 --loader {loader}"
    with pytest.raises(ValueError, match="2 problems with the images: ") as caught:
        inputs.load_splits(cli.parse(Config, "l2t train", line.split()))
    assert all(f"{path}: image file is truncated" in str(caught.value) for path in broken)


@pytest.mark.parametrize(
    ("name", "file", "number"),
    [
        ("mit67", "TrainImages.txt", 4),
        ("stanford40", "ImageSplits/a_test.txt", 1),
        ("cub200", "images.txt", 5),
        ("cub200", "train_test_split.txt", 16),
        ("tinyimagenet", "wnids.txt", 2),
        ("tinyimagenet", "val/val_annotations.txt", 3),
    ],
)
def test_what_is_listed_twice_is_told_by_its_line(name, file, number, tmp_path):
    make(name, tmp_path)
    path = tmp_path / public_sets.SETS[name].folder / file
    listed = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*listed, "", listed[number - 1]]), encoding="utf-8")
    told = f"{path.name}, line {len(listed) + 2} .*got .*, as in line {number}.;"
    with pytest.raises(ValueError, match=told):
        public_sets.read(name, tmp_path, 32, None)


@pytest.mark.parametrize(
    ("name", "train", "test"),
    [
        ("stanford40", "ImageSplits/a_train.txt", "ImageSplits/a_test.txt"),
        ("stanford40", "ImageSplits/a_train.txt", "ImageSplits/b_c_test.txt"),
        ("mit67", "TrainImages.txt", "TestImages.txt"),
    ],
)
def test_an_image_to_train_and_to_test_on_is_told(name, train, test, tmp_path):
    make(name, tmp_path)
    first, second = (tmp_path / public_sets.SETS[name].folder / file for file in (train, test))
    listed = first.read_text(encoding="utf-8").splitlines()[2]
    second.write_text(second.read_text(encoding="utf-8") + listed + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"listed once, in the .*got {listed} more"):
        public_sets.read(name, tmp_path, 32, None)


def test_lists_that_do_not_go_together_are_told(tmp_path):
    make("cub200", tmp_path)
    root = tmp_path / public_sets.SETS["cub200"].folder
    path = root / "train_test_split.txt"
    listed = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(listed[:-1]), encoding="utf-8")
    with pytest.raises(ValueError, match="got 1 in one of them alone, such as number 16"):
        public_sets.read("cub200", tmp_path, 32, None)
    path.write_text("\n".join([*listed[:-1], "16"]), encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 16 must have 2 columns \(got '16'"):
        public_sets.read("cub200", tmp_path, 32, None)
    make("dogs", tmp_path)  # its lists are no text: the image is named
    cells = np.empty((2, 1), object)
    cells[:, 0] = "a/test0.png"
    savemat(tmp_path / "dogs/test_list.mat", {"file_list": cells})
    with pytest.raises(ValueError, match=r"listed once.*got a/test0\.png"):
        public_sets.read("dogs", tmp_path, 32, None)


def test_a_task_sets_the_papers_settings_and_options_beside_it_win():
    def parse(*args: str) -> Config:
        return cli.parse(Config, "l2t train", list(args))

    for name in tasks.TASKS:
        config = parse("--task", name)
        small = config.target == "vgg9_bn"
        assert config.data == name.split("-")[0]
        assert config.image_size == (32 if small else 224)
        assert config.batch_size == (128 if small else 64)
        assert len(config.pairs.split(",")) == (15 * len(config.source) if small else 16)
        assert config.meta_lr == (1e-3 if name == "stanford40" else 1e-4)
        assert config.name() == f"l2t-ww-{name}-0"  # no two tasks share a folder
    # 32 is the option's own default: given, it wins all the same.
    config = parse("--batch-size", "2", "--task", "mit67", "--image-size", "32", "--meta-lr", "0.1")
    assert (config.batch_size, config.image_size, config.meta_lr) == (2, 32, 0.1)
    assert config.target == "resnet18"
    with pytest.raises(ValueError, match=r"--task must be .*cifar10, cifar100, .*\(got mnist\)"):
        parse("--task", "mnist")


@pytest.mark.slow
@pytest.mark.parametrize("name", tasks.TASKS)
def test_a_task_gets_to_its_first_step_with_one_line(name, weights, tmp_path, monkeypatch, capsys):
    """All but the loop itself, whose compilation takes long; test_commands has that."""
    task = tasks.TASKS[name]
    make(task["data"], tmp_path)
    classes = [10 if (name, i) == ("stl10-cifar10", 1) else 200 for i in range(2)]
    files = " ".join(str(weights(*pair)) for pair in zip(task["source"], classes, strict=False))
    batches = []

    def begin(compiled, source_variables, training, *rest, **more):
        batches.append(next(training.epoch(0)))
        raise RunFailedError("that will do")

    monkeypatch.setattr(loop, "train", begin)
    line = (f"--task {name} --source-weights {files} --batch-size 4 --val-fraction 0.2 "
            f"--per-class 4 --workers 0 --data-dir {tmp_path} "
            f"--run-dir {tmp_path / 'run'}")  # fmt: skip
    assert cli.run(train.main, Config, prog="l2t train", args=line.split()) == 1
    out, error = capsys.readouterr()
    assert error.endswith("train: error: that will do\n")
    pairs = {"resnet18": 16, "vgg9_bn": 15 * len(task["source"])}[task["target"]]
    assert f", {pairs} pairs, on 8 training, 2 validation and 4 test images (a seeded " in out
    side = task["image_size"]
    ((images, labels),) = batches
    assert (images.shape, images.dtype) == ((4, side, side, 3), np.uint8)
    # Class 0 is dark and class 1 light, whatever was cropped.
    np.testing.assert_array_equal(np.asarray(images)[:, side // 2, side // 2, 1] >= 100, labels)


@pytest.mark.parametrize("name", ["stl10", "stl10-resnet20", "stl10-twice", "mit67"])
def test_the_pairs_of_a_task_are_the_ends_of_its_networks_stages(name):
    task = tasks.TASKS[name]
    side = task["image_size"]
    images = jax.ShapeDtypeStruct((2, side, side, 3), np.float32)
    *sources, target = (
        output_shapes(network, shapes(network, side), images)
        for network in (zoo.network(net, 10) for net in (*task["source"], task["target"]))
    )
    wanted = set(choose_pairs("stages", sources, target))
    if name == "mit67":  # the stem is not the end of a stage, though the next map is smaller
        wanted = {(m, n) for m, n in wanted if m and n}
    assert set(choose_pairs(task["pairs"], sources, target)) == wanted
