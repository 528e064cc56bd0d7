"""Errors in one line, whatever the terminal."""

import dataclasses
import importlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

import experiments
from experiments import compare, demo, evaluate, models, parity, predict, pretrain, report
from experiments import compile as compile_command
from experiments.options import checks, cli, habits, tasks
from experiments.options.train_options import Config

OPTIONS = {
    "train": Config,
    **{
        command.__name__.rpartition(".")[2]: command.Options
        for command in (
            *(compare, compile_command, demo, evaluate, models),
            *(parity, predict, pretrain, report),
        )
    },
}
TEXT = "Unrecognized options: --metod, fm"


def test_output_that_nobody_reads_is_no_error_of_a_command(monkeypatch):
    """But a pipe that breaks elsewhere is one."""
    read, write = os.pipe()
    os.close(read)
    with open(write, "w", encoding="utf-8") as nobody:
        monkeypatch.setattr(sys, "stdout", nobody)
        with pytest.raises(BrokenPipeError):
            cli.run(lambda _: print("x" * 100_000), models.Options, prog="l2t models", args=[])
    monkeypatch.setattr(sys, "stdout", io.StringIO())

    def broken(_):
        raise BrokenPipeError(32, "Broken pipe")

    assert cli.run(broken, models.Options, prog="l2t models", args=[]) == 2


def box(ruler: str, side: str, colour: str = "", end: str = "") -> str:
    lines = [ruler * 60, f"{side} Unrecognized options: {side}", f"{side} --metod, fm {side}"]
    lines += [f"{side} {ruler * 50} {side}", f"{side} Perhaps you meant {side}", ruler * 60]
    return "\n".join(f"{colour}{line}{end}" for line in lines)


def test_the_first_message_of_every_kind_of_box():
    for text in (box("─", "│"), box("-", "|"), box("─", "│", "\x1b[31m", "\x1b[0m")):
        assert cli.first_message(text) == TEXT


def test_the_overview_has_every_command(capsys):
    overview = importlib.import_module("experiments.__main__")
    assert overview.main(["--help"]) == 0
    printed = capsys.readouterr().out
    commands = [
        path.stem
        for path in Path(experiments.__file__).parent.glob("*.py")
        if '__name__ == "__main__"' in path.read_text() and path.stem != "__main__"
    ]
    assert sorted(commands) == sorted(overview.COMMANDS)
    for name in commands:
        first = importlib.import_module(f"experiments.{name}").__doc__.splitlines()[0]
        assert f"{name:10} {first}" in printed


def test_l2t_runs_a_command_by_its_name(capsys):
    l2t = importlib.import_module("experiments.__main__").main
    assert l2t(["train", "--method", "scratch", "--epochs", "0"]) == 2
    assert "--epochs" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="0"):
        l2t(["report", "--help"])
    assert "usage: l2t report" in capsys.readouterr().out


def test_l2t_names_its_commands_where_there_is_no_such(capsys):
    l2t = importlib.import_module("experiments.__main__").main
    assert l2t(["trian"]) == 2
    error = capsys.readouterr().err
    assert "trian" in error
    assert "train" in error
    assert error.count("\n") == 1


def test_only_commands_are_at_the_top():
    """A file there is a command, a folder is a room."""
    names = {path.stem for path in Path(experiments.__file__).parent.glob("*.py")}
    overview = importlib.import_module("experiments.__main__")
    assert names == {*overview.COMMANDS, "__init__", "__main__"}


@pytest.mark.parametrize("command", OPTIONS)
def test_help_fits_its_terminal_and_says_what_a_default_means(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "90")
    with pytest.raises(SystemExit, match="0"):
        cli.parse(OPTIONS[command], f"l2t {command}", ["--help"])
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 90
    assert "(default: None)" not in printed
    assert "(default: )" not in printed


@pytest.mark.parametrize("task", tasks.TASKS)
def test_the_target_of_a_tasks_finetune_and_probe_is_its_source(task, tmp_path):
    weights = tmp_path / "weights.pth"
    weights.touch()
    source = tasks.TASKS[task]["source"]
    line = ["--task", task, "--source-weights", *[str(weights)] * len(source)]
    if len(source) > 1:
        line += ["--source", "resnet14", "--source-weights", str(weights)]
        source = ("resnet14",)
    for method in ("finetune", "probe"):
        config = cli.parse(Config, "l2t train", ["--method", method, *line])
        config.check()
        assert config.source == source
        assert config.target == (source[0] if method == "finetune" else Config.target)
        again = cli.parse(Config, "l2t train", cli.arguments(config))
        assert again == config


class ExhaustedError(RuntimeError):
    """As a device raises it: its first line says what, the others where."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ExhaustedError("RESOURCE_EXHAUSTED: Out of memory\n4 GiB"), "smaller --batch-size"),
        (MemoryError(), "(got: MemoryError); give a smaller --batch-size"),
        (RuntimeError("Unable to initialize backend 'cuda'\nmore"), "'cuda' (--debug shows where)"),
    ],
)
def test_what_a_device_cannot_do_is_an_error_in_one_line(error, said, capsys):
    def main(options):
        raise error

    assert cli.run(main, models.Options, prog="l2t models", args=[]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("models: error: ")
    assert said in line
    assert "4 GiB" not in line


def test_where_no_file_can_be_written_is_told_before(tmp_path, monkeypatch):
    for path, said in (
        (tmp_path, "must be a file (got"),
        (tmp_path / "none" / "a.csv", "must be in an existing folder (got"),
    ):
        with pytest.raises(ValueError, match=re.escape(said)):
            checks.check_can_be_written("out", path)
    checks.check_can_be_written("out", tmp_path / "a.csv")
    monkeypatch.setattr(checks.os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(ValueError, match="that you may write to"):
        checks.check_can_be_written("out", tmp_path / "a.csv")


def test_every_task_is_described():
    named = [line[2:].split(": ")[0] for line in tasks.DESCRIPTION.splitlines()]
    assert sorted(", ".join(named).split(", ")) == sorted(tasks.TASKS)


def test_a_reader_that_has_enough_ends_the_command_quietly():
    """Such as `l2t --help | head -1`."""
    command = [sys.executable, "-m", "experiments", "--help"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--learning-rate", "0.1"], "did you mean --lr?"),
        (["--learning_rate=0.1"], "did you mean --lr?"),
        (["--batch-szie", "32"], "did you mean --batch-size?"),
        (["--smoothing", "0.1"], "did you mean --label-smoothing?"),
        (["--amp"], "did you mean --precision?"),
        (["--mixup", "0.2"], "there is no such option; docs/habits.md"),
        (["--opt", "adamw"], "there is no such option; docs/habits.md"),
    ],
)
def test_options_of_other_tools_lead_to_the_ones_here(words, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        cli.parse(Config, "l2t train", words)


def test_what_other_tools_call_an_option_is_one_here():
    known = {field.name for field in dataclasses.fields(Config)}
    assert set(habits.KNOWN.values()) <= known
    assert not (set(habits.KNOWN) | habits.ABSENT) & known
    assert not set(habits.KNOWN) & habits.ABSENT
    text = (ROOT / "docs" / "habits.md").read_text(encoding="utf-8")
    told = {"mixup", "opt", "sched", "warmup_steps", "clip_grad", "model_ema", "freeze", "mean"}
    assert told <= habits.ABSENT
    assert all(name.replace("_", "-") in text.lower() for name in told)


def test_models_are_listed_with_the_layers_that_pairs_count(capsys):
    l2t = importlib.import_module("experiments.__main__").main
    assert l2t(["models", "resnet14", "vgg9_bn", "--image-size", "32"]) == 0
    header, resnet, vgg = (line.split() for line in capsys.readouterr().out.splitlines())
    assert header == ["network", "parameters", "layers"]
    # Of the papers: ResNet-14 has 0.175 million, VGG-9 the sum of its eight kernels.
    assert resnet == ["resnet14", "0.18", "M", "0-1:32x32x16", "2-3:16x16x32", "4-5:8x8x64"]
    kernels = [(3, 64), (64, 128), (128, 256), (256, 256), (256, 512), *[(512, 512)] * 3]
    count = sum(9 * a * b + 3 * b for a, b in kernels) + 5130  # a bias, a batch norm's two; a head
    assert vgg[:3] == ["vgg9_bn", f"{count / 1e6:.2f}", "M"]
    assert vgg[3:] == [
        f"{i}:{size}x{size}x{channels}"
        for i, (size, channels) in enumerate([(32, 64), (16, 128), (8, 256), (4, 512), (2, 512)])
    ]
    assert l2t(["models"]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 15
    assert l2t(["models", "vgg9_bn", "--image-size", "16"]) == 2
    assert "images must be 32x32 or more" in capsys.readouterr().err
