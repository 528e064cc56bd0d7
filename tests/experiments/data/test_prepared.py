"""Sets of TensorFlow Datasets: miniatures of their archives, prepared by its own builders."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import numpy as np
import pytest
from conftest import HELPERS, ROOT
from PIL import Image
from scipy.io import savemat
from test_official import make, write_lists

from experiments import train
from experiments.data import public_sets, splits
from experiments.data.tfds import INSTALL, preparation
from experiments.options import cli
from experiments.options.train_options import Config
from experiments.system import extra

# Name here and there, number of classes, and the archives with the members of each.
SETS = {
    "cifar100": ("cifar100", {"cifar-100-binary.tar.gz": ["cifar-100-binary"]}),
    "stl10": ("stl10", {"stl10_binary.tar.gz": ["stl10_binary"]}),
    "dogs": (
        "stanford_dogs",
        {
            "images.tar": ["dogs/Images"],
            "lists.tar": ["dogs/train_list.mat", "dogs/test_list.mat"],
            "annotation.tar": ["dogs/Annotation"],
        },
    ),
    "cub200": (
        "caltech_birds2011",
        {"CUB_200_2011.tgz": ["CUB_200_2011"], "segmentations.tgz": ["segmentations"]},
    ),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with miniatures in their official form, and as TFDS has prepared them."""
    folder = tmp_path_factory.mktemp("data")
    for name in SETS:
        make_whole(name, folder)
        for archive, members in SETS[name][1].items():
            pack(folder / "downloads" / "manual" / archive, folder, members)
    script = HELPERS / "prepare_sets.py"
    subprocess.run(
        [sys.executable, script, folder, *(name for name, _ in SETS.values())],
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    return folder


def make_whole(name: str, folder: Path) -> None:
    """A miniature with as many classes as TFDS wants, of images that all differ."""
    root = folder / public_sets.SETS[name].folder
    if name in ("cifar100", "stl10"):
        make(name, folder)
        count, file = {"cifar100": (100, "fine_label_names.txt"), "stl10": (10, "class_names.txt")}[
            name
        ]
        write_lists(root, {file: [f"class{i}" for i in range(count)]})
        write_lists(root, {"coarse_label_names.txt": [f"coarse{i}" for i in range(20)]})
        (root / "unlabeled_X.bin").write_bytes(bytes(3 * 96 * 96))
        return
    count = {"dogs": 120, "cub200": 200}[name]
    classes = [f"n{i:03}-Dog" if name == "dogs" else f"{i:03}.Bird" for i in range(1, count + 1)]
    rng = np.random.default_rng(0)
    # Every file name comes once, and 10 before 8; the last class has more images than the others.
    files = [f"{c}/f{k}_{i}.jpg" for k, c in enumerate(classes) for i in (8, 9, 10)]
    files.append(f"{classes[-1]}/f{count - 1}_7.jpg")
    files = [files[i] for i in rng.permutation(len(files))]
    test = [file for file in files if file.endswith("_9.jpg")]
    images = "Images" if name == "dogs" else "images"
    for file in files:
        path = root / images / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (10, 12, 3), np.uint8)).save(path)
        if name == "dogs":
            note = root / "Annotation" / file.removesuffix(".jpg")
            note.parent.mkdir(parents=True, exist_ok=True)
            box = {"xmin": 1, "xmax": 5, "ymin": 1, "ymax": 5, "width": 12, "height": 10}
            note.write_text(f"<a>{''.join(f'<{k}>{v}</{k}>' for k, v in box.items())}</a>")
        else:
            mask = folder / "segmentations" / file.replace(".jpg", ".png")
            mask.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (12, 10)).save(mask)
    if name == "dogs":
        for part in ("train", "test"):
            chosen = [file for file in files if (file in test) == (part == "test")]
            cells = np.empty((len(chosen), 1), object)
            cells[:, 0] = chosen
            savemat(root / f"{part}_list.mat", {"file_list": cells})
        return
    numbered = list(enumerate(files, 1))
    write_lists(root, {
        "images.txt": [f"{i} {file}" for i, file in numbered],
        "train_test_split.txt": [f"{i} {int(file not in test)}" for i, file in numbered],
        "bounding_boxes.txt": [f"{i} 1.0 1.0 5.0 5.0" for i, _ in numbered],
    })  # fmt: skip


def pack(archive: Path, folder: Path, members: list[str]) -> None:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:" if archive.suffix == ".tar" else "w:gz") as file:
        for member in members:
            file.add(folder / member, member.removeprefix("dogs/"))


@pytest.mark.parametrize("name", SETS)
def test_a_prepared_set_is_divided_like_the_official_archive(name, prepared, monkeypatch):
    """Image by image, through the published lists."""
    size = 96 if name == "stl10" else 32
    train, test = public_sets.read(name, prepared, size, None)
    rng = np.random.default_rng(0)
    order, test_order = rng.permutation(len(train.labels)), rng.permutation(len(test.labels))
    lists = splits.Indices(order[3:], order[:3], test_order)
    monkeypatch.setattr(splits, "published", lambda split: lists)
    here, there = (
        splits.divide(
            *public_sets.read(chosen, prepared, size, None), 0.2, 0, public_sets.lists_of(chosen)
        )
        for chosen in (name, f"tfds:{SETS[name][0]}")
    )
    assert here.division == there.division == "the published split"
    for one, other in zip(here[:3], there[:3], strict=True):
        np.testing.assert_array_equal(other.labels, one.labels)
        images = [part.load(np.arange(len(part.labels))) for part in (one, other)]
        np.testing.assert_array_equal(*images)
        # The images tell any two places apart.
        assert len(np.unique(images[0].reshape(len(images[0]), -1), axis=0)) == len(images[0])
        assert len(other.classes) == len(one.classes)
    assert public_sets.lists_of(f"tfds:{SETS[name][0]}") == public_sets.lists_of(name)


def test_training_reads_a_prepared_set_without_tensorflow(prepared, tmp_path):
    """Whole batches from worker processes, each of which would end if it imported TensorFlow."""
    program = """
import sys
from experiments.options import cli
from experiments.runs import inputs
from experiments.system import devices
from experiments.options.train_options import Config
line = "--method scratch --data tfds:stanford_dogs --image-size 96 --batch-size 50 --workers 1"
config = cli.parse(Config, "l2t train", [*line.split(), "--data-dir", sys.argv[1]])
if __name__ == "__main__":
    splits = inputs.load_splits(config)
    with inputs.training_data(config, splits.train, devices.all_devices(), 0) as training:
        for images, labels in training.epoch(0):
            print(*images.shape, len(labels))
"""
    script = tmp_path / "program.py"
    script.write_text(program, encoding="utf-8")
    trap = tmp_path / "tensorflow" / "__init__.py"
    trap.parent.mkdir()
    trap.write_text("import os; os._exit(7)", encoding="utf-8")
    result = subprocess.run(
        [sys.executable, script, prepared],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
    )
    assert result.stdout.splitlines() == ["50 96 96 3 50"] * 3


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"array_record"', '"tfrecord"', r"must be of the format array_record \(got tfrecord\)"),
        ('"name": "test"', '"name": "rest"', r"must have test \(got the parts train, rest\)"),
        ('"featureKey": "label"', '"featureKey": "id"', r"\(got \('image', 'id'\) among "),
    ],
)
def test_a_prepared_set_of_another_form_is_told(old, new, told, prepared, tmp_path):
    shutil.copytree(prepared / "cifar100", tmp_path / "cifar100")
    (path,) = tmp_path.glob("cifar100/*/dataset_info.json")
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ValueError, match=told):
        public_sets.read("tfds:cifar100", tmp_path, 32, None)


@pytest.fixture
def hosts(monkeypatch) -> list[str]:
    """The hosts that are asked for; without a network, TFDS goes on asking for minutes."""
    asked: list[str] = []

    def look_up(host, *rest, **options):
        asked.append(host)
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


def refusal(capsys, *args: object) -> str:
    """The one line with which a run on such data is refused."""
    line = ["--method", "scratch", *(str(arg) for arg in args)]
    assert cli.run(train.main, Config, prog="l2t train", args=line) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_a_set_that_is_not_prepared_is_told_with_what_prepares_it(tmp_path, capsys, hosts):
    error = refusal(capsys, "--data", "tfds:cifar10", "--data-dir", tmp_path)
    assert f"tfds:cifar10 must be prepared in {tmp_path}/cifar10" in error
    assert f"run: {INSTALL} && python -c '{preparation('cifar10', tmp_path)}' (it downl" in error
    assert f"{tmp_path}/downloads/manual: cifar-10-binary.tar.gz)" in error
    error = refusal(capsys, "--data", "tfds:imagenet2012", "--data-dir", tmp_path)
    assert "ILSVRC2012_img_train.tar" in error
    assert not hosts


@pytest.mark.parametrize("data", ["tfds:nonsense", "tfds:../cifar10", "tfds:", "tfds:cifar10:3"])
def test_a_name_of_no_set_is_told(data, tmp_path, capsys, hosts):
    error = refusal(capsys, "--data", data, "--data-dir", tmp_path)
    assert f"{data} must be a name" in error or f"(got {data})" in error
    assert not hosts


def test_a_set_with_test_images_of_its_own_takes_no_others(capsys):
    error = refusal(capsys, "--data", "tfds:cifar10", "--test-data", "digits")
    assert "--test-data" in error
    assert "has test images of its own" in error


def test_a_library_that_is_not_installed_is_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    error = refusal(capsys, "--data", "tfds:cifar10", "--data-dir", tmp_path)
    assert f"run: {extra.INSTALL}" in error


def test_the_extras_that_messages_name_install_what_is_missing():
    """Reading needs the commands' extra alone, and preparing the other one beside it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {
        name: {re.match(r"[\w-]+", line)[0] for line in lines}
        for name, lines in project["optional-dependencies"].items()
    }
    assert {"tensorflow-datasets", "importlib_resources"} <= extras["experiments"]
    (extra,) = re.findall(r"l2t_jax\[(\w+)\]", INSTALL)
    assert {"tensorflow-cpu", "opencv-python-headless"} <= extras[extra]
