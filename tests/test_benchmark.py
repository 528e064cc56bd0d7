"""The benchmark runs, and writes what it printed."""

import json
import subprocess
import sys

import pytest

from experiments import benchmark


def test_the_benchmark_writes_its_ratios(tmp_path, capsys):
    path = tmp_path / "figures.json"
    options = ["--batch", "2", "--repeats", "1", "--modes", "mixed", "--pairs", "1"]
    options += ["--json", str(path)]
    assert benchmark.main(options) == 0
    printed = capsys.readouterr().out
    figures = json.loads(path.read_text())
    rows = figures["programs"]
    assert all(f"| {name} |" in printed for name in rows)
    assert figures["iteration_over_plain_step"] == rows[benchmark.MIXED]["over_plain_step"]
    assert rows[benchmark.MIXED]["over_plain_step"] > 1
    fewer = rows[benchmark.row(pairs=1)]
    assert fewer["gflop"] < rows[benchmark.MIXED]["gflop"]


def test_the_line_through_the_ratios_is_the_nearest():
    line = benchmark.line("T", [1, 2, 4], [3.0, 5.0, 9.0])
    assert line.startswith("iteration ÷ plain step: 1.00 + 2.00 · T;")
    assert "at most 0 %" in line
    assert "at most 50 %" in benchmark.line("T", [0, 1, 2], [1.0, 2.5, 1.0])


def test_bad_options_are_refused(capsys):
    for options in (["--batch", "0"], ["--pairs", "16"], ["--peer", "other"], ["--modes", "other"]):
        with pytest.raises(SystemExit):
            benchmark.main(options)
        assert "error: " in capsys.readouterr().err


def test_it_imports_only_what_any_accelerator_machine_has():
    """And the library's annotations cost a user nothing: jaxtyping stays out."""
    code = (
        "import sys, experiments.benchmark;"
        "print([m for m in ('tyro', 'matplotlib', 'PIL', 'sklearn', 'tqdm', 'jaxtyping',"
        " 'safetensors', 'tensorflow_datasets') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
