"""What is exported serves without the project, as the project predicts."""

import csv
import json
from pathlib import Path

import alone
import finished_run
import jax
import numpy as np
import pages
import pytest
import safetensors
from conftest import quick_compiler
from jax import export
from messages import says

from experiments import __main__ as l2t
from experiments.data import crops, decoding
from experiments.networks import zoo
from experiments.options.train_options import Config
from experiments.serving import program
from experiments.system import extra, files, precision

pytestmark = pytest.mark.slow
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
NETWORK = "vgg9_bn_w4"
EXPORTED = {"README.md", "model.json", "model.safetensors", "program.jax"}


@pytest.fixture(autouse=True)
def as_commands_run():
    with quick_compiler(), jax.enable_x64(False):
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with photographs, a finished run on them, and what it exports."""
    folder = tmp_path_factory.mktemp("place")
    finished_run.photos(folder / "photos")
    options = Config(
        method="l2t-ww", data=str(folder / "photos"), target=NETWORK, crop_share=0.8,
        batch_size=10, epochs=2, beta=2.0, source_weights=("a folder/weights.pth",),
        pairs="4-0,9-1", run_dir=folder / "runs/l2t-ww-photos-0",
    )  # fmt: skip
    more = {"matched_pairs": [[4, 0], [9, 1]], "source_layers": [], "source_sha256": ["c0ffee"]}
    with quick_compiler(), jax.enable_x64(False):
        finished_run.make(options, NETWORK, **more)
        assert l2t.main(["export", str(options.folder())]) == 0
    return folder


def softmax(logits):
    powers = np.exp(np.asarray(logits, np.float64))
    return powers / powers.sum(axis=1, keepdims=True)


def normalised(images):
    return ((images / 255 - MEAN) / STD).astype(np.float32)


SERVE = """
files = sorted(str(file) for file in Path("photos").glob("*/*"))[:7]
images = [
    np.asarray(ImageOps.fit(ImageOps.exif_transpose(Image.open(file)).convert("RGB"),
                            model["image_shape"][1::-1], bleed=(1 - model["crop_share"]) / 2))
    for file in files
]
one = np.concatenate([np.asarray(program(image[None])) for image in images])
seven = np.asarray(program(np.stack(images)))
print(json.dumps([files, one.tolist(), seven.tolist()]))
"""


def test_the_program_alone_predicts_as_the_commands_do(place, tmp_path, monkeypatch):
    (page,) = pages.python(pages.DOCS / "serving.md")
    page = page.replace("probe-photos-0", "l2t-ww-photos-0")
    page = page.replace("new_photos/1.jpg", "photos/beetle/1.jpg")
    monkeypatch.chdir(place)
    first, rest = alone.run(page + SERVE, place).splitlines()
    names, one, seven = json.loads(rest)
    table, run = tmp_path / "classes.csv", "runs/l2t-ww-photos-0"
    assert l2t.main(["predict", run, *names, "--out", str(table)]) == 0
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for served in (one, seven):
        for row, probabilities in zip(rows, served, strict=True):
            assert finished_run.CLASSES[np.argmax(probabilities)] == row["class"]
            assert max(probabilities) == pytest.approx(float(row["probability"]), abs=6e-5)
    # As the page prints it, of its photograph.
    assert first.split()[0] == rows[0]["class"]
    assert float(first.split()[1]) == pytest.approx(float(rows[0]["probability"]), abs=6e-5)
    # All classes, by the network itself and NumPy.
    network, variables = zoo.load(NETWORK, Path(run, "target.safetensors"), (32, 32, 3))
    images = np.stack([crops.centre(decoding.read(Path(name)), 32, 0.8) for name in names])
    expected = softmax(network.apply(variables, normalised(images), train=False).logits)
    np.testing.assert_allclose(one, expected, rtol=2e-5)
    np.testing.assert_allclose(seven, expected, rtol=2e-5)
    assert np.ptp(expected, axis=0).min() > 1e-3  # the images count
    predictions = tmp_path / "p.npz"
    assert l2t.main(["evaluate", run, "photos", "--predictions", str(predictions)]) == 0
    evaluated = np.load(predictions)["predictions"]
    assert evaluated[:7].tolist() == np.argmax(seven, axis=1).tolist()


def test_the_weights_are_the_runs_and_describe_themselves(place):
    run = place / "runs/l2t-ww-photos-0"
    model = json.loads((run / "export/model.json").read_text())
    assert model["classes"] == list(finished_run.CLASSES)
    assert (model["image_shape"], model["crop_share"]) == ([32, 32, 3], 0.8)
    assert (model["mean"], model["std"]) == (MEAN.tolist(), STD.tolist())
    with (
        safetensors.safe_open(run / "export/model.safetensors", "numpy") as ours,
        safetensors.safe_open(run / "target.safetensors", "numpy") as theirs,
    ):
        known = ours.metadata()
        assert {name: json.loads(known[name]) for name in ("classes", "image_shape", "std")} == {
            name: model[name] for name in ("classes", "image_shape", "std")
        }
        assert ours.keys() == theirs.keys()
        for name in theirs.keys():  # noqa: SIM118 - it is no dictionary
            np.testing.assert_array_equal(ours.get_tensor(name), theirs.get_tensor(name))
    zoo.load(NETWORK, run / "export/model.safetensors", (32, 32, 3))


@pytest.mark.parametrize(
    ("name", "side", "rounding"),
    [
        ("vgg9_w4", 32, "float32"),
        ("vgg9_bn_w4", 32, "bfloat16"),
        ("resnet8", 8, "float32"),
        ("resnet18", 32, "float32"),
        ("vit_micro_patch2", 8, "float32"),
    ],
)
def test_every_kind_of_network_has_a_program_for_every_platform(name, side, rounding):
    network = zoo.network(name, 3, rounding)
    images = np.random.default_rng(0).integers(0, 256, (7, side, side, 3), np.uint8)
    variables = jax.jit(network.init)(jax.random.key(0), normalised(images))
    with precision.products("float32"):
        content = program.write(network, variables, (side, side, 3))
        expected = softmax(network.apply(variables, normalised(images), train=False).logits)
    exported = export.deserialize(content)
    assert exported.platforms == ("cpu", "cuda", "tpu")
    # On an accelerator products are rounded unless the program says no.
    assert "HIGHEST" in exported.mlir_module()
    for size in (1, 7):
        found = np.asarray(exported.call(images[:size]))
        assert found.dtype == np.float32
        tolerance = 2e-2 if rounding == "bfloat16" else 1e-4
        np.testing.assert_allclose(found, expected[:size], rtol=tolerance)


def tree(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_export_is_made_once_and_nothing_else_is_written_over(place, tmp_path, capsys):
    run = str(place / "runs/l2t-ww-photos-0")
    out = tmp_path / "new" / "folder"
    assert l2t.main(["export", run, "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == EXPORTED
    (out / "README.md").write_text("the owner's words")
    before = tree(out)
    capsys.readouterr()
    assert l2t.main(["export", run, "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out} has this export already\n"
    assert tree(out) == before
    model = json.loads((out / "model.json").read_text())
    files.write_json(out / "model.json", model | {"made_by": model["made_by"] | {"jax": "0.0.1"}})
    assert l2t.main(["export", run, "--out", str(out)]) == 2
    assert ", made by l2t_jax " in (told := capsys.readouterr().err)
    assert ", jax 0.0.1, jaxlib " in told
    files.write_json(out / "model.json", model)
    whole = (out / "program.jax").read_bytes()
    (out / "program.jax").write_bytes(whole[:-1])
    assert l2t.main(["export", run, "--out", str(out)]) == 2
    assert "which has this export, damaged)" in capsys.readouterr().err
    (out / "program.jax").write_bytes(whole)
    files.write_json(out / "model.json", model | {"weights_sha256": "another's"})
    before = tree(out)
    assert l2t.main(["export", run, "--out", str(out)]) == 2
    assert says(capsys.readouterr().err, f"--out must be … (got {out}, which has something else)")
    assert tree(out) == before


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("nowhere", "nowhere must be the folder of a finished run (got no result.json)"),
        ("unfinished", "unfinished must be the folder of a finished run (got no result.json)"),
        ("old", "old/result.json must tell what was trained (got no network, weights, "),
        ("run --out old", "--out must be … (got old, which has something else); give"),
        ("run --out file", "--out must be a folder (got file, where file is a file)"),
        ("run --out file/below", "file/below"),
    ],
)
def test_what_cannot_be_exported_is_told_in_a_line(
    words, text, place, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").symlink_to(place / "runs/l2t-ww-photos-0")
    for name in ("unfinished", "old"):
        (tmp_path / name).mkdir()
    (tmp_path / "unfinished" / "config.json").write_text("{}")
    (tmp_path / "old" / "result.json").write_text("{}")
    (tmp_path / "file").touch()
    before = tree(tmp_path)
    assert l2t.main(["export", *words.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("export: error: ")
    assert says(line, text)
    assert tree(tmp_path) == before


def test_without_flatbuffers_it_says_what_to_install(place, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(extra, "is_installed", lambda module: module != "flatbuffers")
    assert l2t.main(["export", str(place / "runs/l2t-ww-photos-0"), "--out", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith('pip install "l2t_jax[export]"')


def test_a_disk_that_fails_leaves_nothing(place, tmp_path, monkeypatch, capsys):
    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(files, "write_json", fail)
    out = tmp_path / "out"
    assert l2t.main(["export", str(place / "runs/l2t-ww-photos-0"), "--out", str(out)]) == 2
    assert capsys.readouterr().err == "export: error: no space left\n"
    assert not out.exists()
