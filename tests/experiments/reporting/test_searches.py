"""Names of the searches whose weights the runs of a table have."""

import dataclasses
import json
from pathlib import Path

from experiments.options.train_options import Config
from experiments.reporting import searches
from experiments.runs import found_weights


def search(folder: Path, **options) -> Path:
    folder.mkdir()
    config = dataclasses.asdict(Config(method="l2t-ww", **options))
    (folder / "config.json").write_text(json.dumps(config, default=str))
    return folder


def trained(weights_from: Path | None, **options) -> dict:
    """What a run records, its search included."""
    config = Config(method="fm", weights_from=weights_from, **options)
    recorded = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    return recorded | found_weights.recorded(config)


def test_searches_that_are_alike_need_no_options(tmp_path):
    """Also where one run has the search's β and the other has not."""
    short = search(tmp_path / "short", epochs=50, beta=8.0, unroll_steps=8, meta_lr=0.01)
    runs = [trained(short, beta=8.0), trained(short, beta=24.0), trained(None)]
    assert "beta" in runs[1]["weights_of"]
    assert "beta" not in runs[0]["weights_of"]
    assert searches.names(runs) == ["l2t-ww", "l2t-ww", None]


def test_the_options_in_which_searches_differ_tell_them_apart(tmp_path):
    small = search(tmp_path / "small", beta=0.1, meta_lr=0.01)
    large = search(tmp_path / "large", beta=8.0, meta_lr=0.01)
    default = search(tmp_path / "default", meta_lr=0.01, epochs=7)
    runs = [trained(small, beta=0.1), trained(large, beta=0.1), trained(default)]
    assert searches.names(runs) == [
        "l2t-ww:epochs=200,beta=0.1",
        "l2t-ww:epochs=200,beta=8",
        "l2t-ww:epochs=7,beta=0.5",
    ]


def test_a_run_that_does_not_say_which_search_has_no_name_for_it():
    old = {"method": "fm", "weights_of": "a search"}
    assert searches.names([old, {"method": "scratch"}]) == [None, None]
