"""What an earlier run has left in a folder."""

import dataclasses
from pathlib import Path

import pytest

from experiments.options.train_options import Config
from experiments.runs import resume
from experiments.system.files import write_json

MORE = {"data_sha256": "a" * 64, "split_sha256": "b" * 64, "source_sha256": ["c" * 64]}


def recorded(folder: Path, **options) -> None:
    config = Config(method="scratch", **options)
    write_json(folder / "config.json", dataclasses.asdict(config) | MORE)


@pytest.mark.parametrize(
    ("options", "more", "said"),
    [
        ({}, {"data_sha256": "d", "split_sha256": "e"}, "other images (some were added,"),
        (
            {},
            {"split_sha256": "e"},
            "other images (some were added, removed or changed since)",
        ),
        (
            {},
            {"source_sha256": ["f"]},
            "other weights of a source",
        ),
        ({"lr": 0.2}, {"split_sha256": "e"}, "lr 0.1, not 0.2"),
    ],
)
def test_what_differs_is_told_in_words(options, more, said, tmp_path):
    recorded(tmp_path)
    assert resume.has_run(tmp_path, Config(method="scratch"), MORE)
    with pytest.raises(ValueError, match=" ") as caught:
        resume.has_run(tmp_path, Config(method="scratch", **options), MORE | more)
    told, _, advice = str(caught.value).partition("; give the same options and files, or another")
    assert told.startswith(f"{tmp_path} has a run with {said}")
    assert advice


def test_what_a_killed_process_has_left_half_written_is_nothing(tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / ".config.json.part").write_text("{")
    assert not resume.has_run(tmp_path, Config(method="scratch"), MORE)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match="must be new or empty"):
        resume.has_run(tmp_path, Config(method="scratch"), MORE)
