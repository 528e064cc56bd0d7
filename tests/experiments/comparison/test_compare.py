"""Comparisons: which runs they are, what is skipped, and how failures and Ctrl-C end."""

import dataclasses
import json
import os
import signal
import sys
import threading
import time

import pytest
from messages import says

from experiments import compare
from experiments.comparison import grid, processes, progress
from experiments.options import cli
from experiments.options.train_options import Config
from experiments.reporting import groups
from experiments.runs import finished, resume
from experiments.system import files
from experiments.system.files import write_json

pytestmark = pytest.mark.slow


def run(*args, start=None):
    """The command in this process, with fake children where a function to start them is given."""
    main = compare.main if start is None else lambda options: compare.main(options, start)
    words = [str(a) for a in args]
    return cli.run(main, compare.Options, prog="l2t compare", args=words)


class Fake:
    """A child that does its work when it is first looked at; `started` has all configurations."""

    started: list[Config]
    most = 0  # children at work at once

    def __init__(self, codes=()):
        self.started, self.codes, self.working = [], dict(codes), 0

    def __call__(self, command, log, environment):
        assert command[:3] == [sys.executable, "-m", "experiments.train"]
        config = cli.parse(Config, "l2t train", command[3:])
        self.started.append(config)
        self.working += 1
        self.most = max(self.most, self.working)
        code = self.codes.get(config.method, 0)
        log.write(b"loss 2.3\r\nout of memory\n" if code else b"best epoch 1\n")
        return FakeChild(self, config, code)


class FakeChild:
    def __init__(self, fake, config, code):
        self.fake, self.config, self.code, self.looks = fake, config, code, 0

    def poll(self):
        self.looks += 1
        if self.looks < 3:
            return None
        self.fake.working -= 1
        folder = self.config.run_dir
        folder.mkdir(exist_ok=True)
        write_json(folder / "config.json", dataclasses.asdict(self.config) | {"matched_pairs": []})
        if self.code == 0:
            write_json(folder / "result.json", {"test_accuracy": 0.5, "val_accuracy": 0.6})
        return self.code


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch):
    monkeypatch.setattr(processes, "POLL", 0.0)


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "a source.pth"
    path.touch()
    return str(path)


TABLE = [
    *("scratch", "lwf", "at:pairs=one-to-one", "fm:pairs=one-to-one", "fm:pairs=4-0,9-1,beta=1"),
    *("l2t-w:pairs=single", "l2t-ww", "l2t-ww:where=constant,where-bias=-1,scheme=bilevel"),
]


def test_the_runs_are_named_ordered_and_read_back_from_their_command_lines(weights, tmp_path):
    common = ["--source-weights", str(weights), "--data", "digits", "--batch-size", "128"]
    runs = grid.expand(TABLE, ["cub200"], [1, 0], [100, 50], common, tmp_path)
    assert len(runs) == len({run.folder for run in runs}) == 8 * 2 * 2
    assert [(r.config.per_class, r.config.seed) for r in runs[::8]] == [
        (50, 1), (50, 0), (100, 1), (100, 0)]  # fmt: skip
    assert [r.method for r in runs[:8]] == TABLE
    assert runs[4].name == "cub200-n50-fm-pairs=4-0,9-1-beta=1-seed1"
    by_method = {run.method: run.config for run in runs[:8]}
    assert by_method[TABLE[4]].pairs == "4-0,9-1"
    assert by_method[TABLE[4]].beta == 1.0
    assert (by_method[TABLE[7]].where, by_method[TABLE[7]].where_bias) == ("constant", -1.0)
    assert by_method["scratch"].source_weights == ()
    assert by_method["lwf"].source_weights == (weights,)
    # The task sets what neither -- nor the method does; batches of 128 are the default, not its.
    assert {(c.target, c.data, c.batch_size) for c in by_method.values()} == {
        ("resnet18", "digits", 128)
    }
    for each in runs:
        words = cli.arguments(each.config)
        assert cli.parse(Config, "l2t train", words) == each.config


def test_methods_that_go_on_with_the_source_leave_the_others_target(weights, tmp_path):
    methods = ["scratch", "probe", "finetune", "finetune:target=resnet20"]
    common = ["--source-weights", weights, "--source", "resnet14", "--target", "vgg9_bn_w8"]
    runs = grid.expand(methods, [], [0], [], common, tmp_path)
    assert [r.config.target for r in runs] == ["vgg9_bn_w8", "vgg9_bn", "resnet14", "resnet20"]
    for each in runs:
        words = cli.arguments(each.config)
        assert cli.parse(Config, "l2t train", words) == each.config
    alone = cli.parse(Config, "l2t train", ["--method=finetune", "--source=resnet14"])
    assert alone.target == "resnet14"


def test_found_weights_are_those_of_the_search_with_the_same_seed_and_images(weights, tmp_path):
    common = ["--source-weights", weights, "--preset", "recommended", "--epochs", "200"]
    search = "l2t-ww:epochs=50,where=exponential"
    methods = ["fm", "fm:weights-from=l2t-ww,beta=24", search]
    runs = grid.expand(methods, [], [0, 1], [9, 5], common, tmp_path)
    for equal, found, searched in zip(runs[::3], runs[1::3], runs[2::3], strict=True):
        assert equal.config.weights_from is None
        assert found.config.weights_from == searched.folder
        assert (found.config.epochs, searched.config.epochs) == (200, 50)
        both = [(r.config.seed, r.config.per_class) for r in (found, searched)]
        assert both[0] == both[1]
        assert cli.parse(Config, "l2t train", cli.arguments(found.config)) == found.config


@pytest.mark.parametrize(("jobs", "before"), [(1, 0), (3, 0), (2, 1)])
def test_a_run_waits_for_the_one_whose_weights_it_takes(jobs, before, weights, tmp_path):
    line = ["--methods", "fm:weights-from=l2t-ww", "l2t-ww", "scratch", "--out", tmp_path]
    after = ["--jobs", jobs, "--", "--source-weights", weights]
    if before:
        search = ["--methods", "l2t-ww", "--out", tmp_path, "--seeds", 0]
        assert run(*search, *after, start=Fake()) == 0
    fake = Fake()

    def start(command, log, environment):
        config = cli.parse(Config, "l2t train", command[3:])
        if config.weights_from is not None:
            assert (config.weights_from / "result.json").exists()
        return fake(command, log, environment)

    assert run(*line, "--seeds", 0, 1, *after, start=start) == 0
    assert len(fake.started) == 6 - before
    assert fake.most == min(jobs, 3)


BAD = [
    (
        "--methods fm:weights-from=l2t-ww -- --source-weights WEIGHTS",
        "--methods fm:weights-from=l2t-ww: weights-from must be … once (got l2t-ww",
    ),
    (
        "--methods fm:weights-from=at at -- --source-weights WEIGHTS",
        "weights-from must be … (got at",
    ),
    (
        "--methods fm:weights-from=l2t-ww l2t-ww l2t-ww:beta=2 -- --source-weights WEIGHTS",
        "weights-from must be … once (got l2t-ww",
    ),
    (
        "--methods fm:weights-from=l2t-ww l2t-ww:source-scale=standard -- --source-weights WEIGHTS",
        "source-scale must be that of l2t-ww:source-scale=standard (got as-is and standard)",
    ),
    (
        "--methods fm:weights-from=l2t-ww,pairs=single l2t-ww -- --source-weights WEIGHTS",
        "pairs must be that of l2t-ww (got single and none)",
    ),
    ("--methods scratch --jobs 0", "--jobs must be … (got 0)"),
    ("--methods", "--methods"),
    ("--methods scratch --seeds", "--seeds must … (got none)"),
    ("--methods scratch --seeds -1", "--seed must be … (got -1)"),
    ("--methods scratch --tasks cifar1", "on cifar1: --task must be … cifar10 … (got cifar1)"),
    ("--methods scratch --per-class 0", "--per-class must be … (got 0)"),
    ("--methods scratch magic", "--methods magic: "),
    ("--methods scratch:lr", "--methods must be METHOD … (got scratch:lr)"),
    ("--methods scratch:seed=1", "one method … seed … (got --methods scratch:seed=1)"),
    ("--methods scratch:lr=-1", "--methods scratch:lr=-1: --lr must be … (got -1.0)"),
    ("--methods scratch:rl=1", "--methods scratch:rl=1: Unrecognized options: --rl=1"),
    ("--methods scratch scratch", "once … (got two runs digits-scratch-seed0)"),
    ("--methods scratch scratch:lr=0.1", "--methods must … (got scratch and scratch:lr=0.1"),
    ("--methods scratch -- --seed=1", "after -- … (got --seed) … --seeds before the --"),
    ("--methods scratch -- --resume never", "after -- … (got --resume)"),
    ("--methods scratch -- --run_dir x", "after -- … (got --run-dir) … --out before"),
    ("--methods scratch -- --epochs many", "after --: Error parsing --epochs"),
    ("--methods scratch -- --val-fraction 2", "--val-fraction must be … (got 2.0)"),
    ("--methods scratch fm", "--methods fm: --source-weights must be … (got none)"),
    ("--methods fm -- --source-weights nowhere.pth", "--source-weights nowhere.pth: no such file"),
    (
        "--methods scratch --tasks cifar10 stl10 -- --data digits",
        "--tasks must be one … --data … (got cifar10 stl10)",
    ),
    ("--methods scratch --tasks cifar10", "cifar10-scratch-seed0: "),
    ("--methods scratch -- --data nowhere.npz", "nowhere-scratch-seed0: "),
    (
        "--methods fm fm:unlabelled=nowhere,beta=2 -- --source-weights WEIGHTS",
        "no such data: nowhere",
    ),
    ("--methods scratch --per-class 5 500", "digits-n500-scratch-seed0: "),
    ("--methods scratch -- --batch-size 2000", "--batch-size must be at most"),
]


def test_what_all_runs_are_given_reaches_those_that_use_it(weights):
    """Only what a method itself is given, and does not use, is refused."""
    common = ("--source-weights", str(weights), "--source-scale", "standard", "--preset")
    common += ("recommended", "--outer-batch-size", "9", "--unlabelled", "digits")
    chosen = {
        method: grid.configure(method, None, common) for method in ("scratch", "at", "fm", "l2t-ww")
    }
    scales = {method: config.source_scale for method, config in chosen.items()}
    assert scales == {"scratch": "as-is", "at": "as-is", "fm": "standard", "l2t-ww": "standard"}
    assert [bool(config.unlabelled) for config in chosen.values()] == [False, True, True, True]
    assert (chosen["fm"].beta, chosen["l2t-ww"].outer_batch) == (8.0, "held-out")
    with pytest.raises(ValueError, match=r"--source-scale must not be given with --method at"):
        grid.configure("at:source-scale=standard", None, common)


@pytest.mark.parametrize(("line", "message"), BAD)
def test_bad_input_is_told_before_anything_starts(line, message, weights, tmp_path, capsys):
    fake = Fake()
    words = [weights if word == "WEIGHTS" else word for word in line.split()]
    assert run("--out", tmp_path / "out", *words, start=fake) == 2
    error = capsys.readouterr().err
    assert error.startswith("compare: error: ")
    assert error.count("\n") == 1
    assert says(error, message)
    assert not fake.started
    assert not (tmp_path / "out").exists()


def test_failed_runs_are_told_and_tried_anew_and_done_ones_are_skipped(weights, tmp_path, capsys):
    out = tmp_path / "out"
    line = ["--methods", "scratch", "fm", "lwf", "--seeds", 0, 1, "--out", out, "--jobs", 2]
    after = ["--", "--source-weights", weights]
    fake = Fake({"fm": 3})
    assert run(*line, *after, start=fake) == 1
    assert [c.method for c in fake.started] == ["scratch", "fm", "lwf"] * 2
    assert fake.most == 2
    printed = capsys.readouterr().out
    log = out / "digits-fm-seed0.log"
    assert f"digits-fm-seed0: FAILED, exit code 3: out of memory (log: {log})" in printed
    assert "digits-lwf-seed1: validation accuracy 60.00 %, test accuracy 50.00 %" in printed
    assert f"4 done, 2 failed; failed:\n  {log}" in printed
    # The same again: what failed is started again, and goes on where it has a checkpoint.
    (out / "digits-fm-seed1" / "checkpoints").mkdir()
    fake = Fake()
    assert run(*line, *after, start=fake) == 0
    assert [c.method for c in fake.started] == ["fm", "fm"]
    assert log.read_text().endswith("out of memory\nbest epoch 1\n")
    printed = capsys.readouterr().out
    assert f"6 runs in {out}: 4 done before, 2 to do" in printed
    assert "digits-fm-seed0: starts" in printed
    assert "digits-fm-seed1: resumes" in printed
    # More seeds add to it; with other options nothing is touched.
    fake = Fake()
    assert run(*line, 2, *after, start=fake) == 2
    assert run(*line, *after, "--beta", "2", "--epochs", 7, start=fake) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "digits-scratch-seed0 has a run with" in error
    assert "epochs 200, not 7; beta 0.5, not 2.0; give" in error
    assert not fake.started


def test_a_folder_may_be_moved_and_may_be_older_than_an_option(tmp_path):
    config = Config(method="scratch", run_dir=tmp_path)
    stored = dataclasses.asdict(dataclasses.replace(config, run_dir=None))
    del stored["where_bias"]
    write_json(tmp_path / "config.json", stored)
    assert resume.result(tmp_path, config) is None
    (tmp_path / "result.json").write_text('{"test_accu')  # broken off within the file
    assert resume.result(tmp_path, config) is None
    write_json(tmp_path / "result.json", {"test_accuracy": 1.0})
    assert resume.result(tmp_path, config) == {"test_accuracy": 1.0}
    other = dataclasses.replace(config, where_bias=2.0)
    with pytest.raises(ValueError, match=r"a run with where_bias 1\.0, not 2\.0; give"):
        resume.result(tmp_path, other)


def test_the_time_left_goes_by_the_latest_run_of_the_same_kind(tmp_path, monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    runs = grid.expand(["scratch"], [], [0, 1], [10, 30], [], tmp_path)
    fake = Fake()
    told = progress.Progress(runs, 1, fake)
    child = told.begin(runs[0])
    now[0] = 20.0
    while (code := child.poll()) is None:
        pass
    told.end(runs[0], code)
    # 20 s for 10 images: 20 s, 60 s and 60 s to come.
    assert "test accuracy 50.00 %, 20 s; about 2.3 min left" in capsys.readouterr().out
    assert (progress.duration(99), progress.duration(5400), progress.duration(9000)) == (
        "99 s", "90.0 min", "2.5 h")  # fmt: skip


SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]


def test_ctrl_c_ends_the_children_and_a_run_at_work_is_left_alone(tmp_path, capsys):
    begun = []

    def sleep(command, log, environment):
        begun.append(processes.Process(SLEEPER, log, environment))
        if len(begun) == 2:
            # A run that is at work is not started a second time, even by another comparison.
            again = Fake()
            assert run(*line, start=again) == 0
            assert [config.seed for config in again.started] == [2]
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        return begun[-1]

    line = ["--methods", "scratch", "--seeds", 0, 1, 2, "--out", tmp_path, "--jobs", 2]
    begin = time.monotonic()
    assert run(*line, start=sleep) == 130
    assert time.monotonic() - begin < 30
    assert [child.poll() for child in begun] == [-signal.SIGTERM] * 2
    printed = capsys.readouterr().out
    assert "digits-scratch-seed0: skipped: it is running" in printed
    assert printed.endswith("Repeat the command to resume.\n")
    # With its end the claim on its log has ended too.
    with files.claim(tmp_path / "digits-scratch-seed0.log") as log:
        assert log is not None


def test_a_real_comparison(weights, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    line = ["--methods", "scratch", "lwf", "--seeds", 0, 1, "--per-class", 10, "--out", tmp_path,
            "--jobs", 2, "--", "--image-size", 8, "--target", "resnet8", "--batch-size", 40,
            "--epochs", 1, "--source-weights", weights]  # fmt: skip
    assert run(*line) == 1
    printed = capsys.readouterr().out
    assert f"n10-lwf-seed0: FAILED, exit code 2: train: error: {weights}" in printed
    result = json.loads((tmp_path / "digits-n10-scratch-seed0" / "result.json").read_text())
    accuracy = 100 * result["test_accuracy"]
    assert f", test accuracy {accuracy:.2f} %" in printed
    log = (tmp_path / "digits-n10-scratch-seed0.log").read_text()
    assert log.startswith(f"$ {sys.executable} -m experiments.train --method=scratch")
    assert log.splitlines()[-1].startswith("best epoch 1")
    # The run's own record of its options is the one that is looked for.
    fake = Fake({"lwf": 1})
    assert run(*line, start=fake) == 1
    assert [c.method for c in fake.started] == ["lwf", "lwf"]
    # Each seed has its own split, and all are averaged.
    (found,) = groups.arrange(finished.find([tmp_path]).runs).groups.values()
    assert found.seeds == (0, 1)
