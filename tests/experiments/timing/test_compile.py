"""Programs for TPUs: their text is read and printed; with the extra `tpu` they are compiled."""

import importlib.util
import json
import os
import subprocess
import sys

import jax
import pytest
from conftest import ROOT
from messages import says

from experiments import compile as compile_command
from experiments.timing import ahead_of_time, hlo
from experiments.timing.ahead_of_time import CHIPS, DoesNotFitError, Step

# In the form that the compiler writes, by hand: what is in a fusion, and what is not.
TEXT = """HloModule jit_step, is_scheduled=true

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[]{:T(128)} parameter(0)
  %y = f32[]{:T(128)} parameter(1)
  ROOT %sum = f32[]{:T(128)} add(%x, %y)
}

%fused_computation.1 (p: f32[2,4,4,8], k: f32[3,3,8,8]) -> (f32[8], f32[2,4,4,8]) {
  %p = f32[2,4,4,8]{3,2,1,0:T(8,128)} parameter(0)
  %k = f32[3,3,8,8]{3,2,1,0:T(8,128)} parameter(1)
  %zero = f32[]{:T(128)} constant(0)
  %edge = f32[2,6,6,8]{3,2,1,0:T(8,128)} pad(%p, %zero), padding=0_0x1_1x1_1x0_0
  %conv = f32[2,4,4,8]{3,2,1,0} convolution(%edge, %k), operand_precision={highest,highest}
  %dot.1 = bf16[8,8]{1,0} dot(%p, %p), metadata={op_name="convolution(x) pad(y)"}
  ROOT %both = (f32[8]{0}, f32[2,4,4,8]{3,2,1,0}) tuple(%zero, %conv)
}

ENTRY %main.1 (a: f32[2,4,4,8], b: f32[3,3,8,8]) -> f32[8] {
  %a = f32[2,4,4,8]{3,2,1,0:T(8,128)} parameter(0)
  %b = f32[3,3,8,8]{3,2,1,0:T(8,128)} parameter(1)
  %none = f32[]{:T(128)} constant(0)
  %f.1 = (f32[8]{0}, f32[2,4,4,8]{3,2,1,0}) fusion(%a, %b), kind=kOutput, calls=%fused_computation.1
  %one = f32[8]{0:T(128)} get-tuple-element(%f.1), index=0
  %wide = f32[2,4,8,8]{3,2,1,0:T(8,128)} pad(%a, %none), padding=0_0x0_0x0_1_1x0_0
  %alone = f32[2,4,4,8]{3,2,1,0} convolution(%a, %b), window={size=3x3 pad=1_1x1_1}
  %start = (f32[8]{0}, bf16[2,8]{1,0}) all-reduce-start(%one, %half), to_apply=%add
  %done = (f32[8]{0}, bf16[2,8]{1,0}) all-reduce-done(%start)
  %gathered = f32[32]{0} all-gather(%one), dimensions={0}
  ROOT %reduced = f32[8]{0:T(128)} all-reduce(%one), to_apply=%add
}
"""
STEP = Step(3 * 2**20, 2**20, 2**20, 197.0, 819e6, hlo.read(TEXT))
NARROW = """
import sys
import l2t_jax
from experiments import compile as compile_command
from experiments.system.precision import operands
from experiments.timing import programs
from l2t_jax.models import cifar_resnet, vgg
def narrow(name, precision):
    kind = operands(precision)
    source, target = cifar_resnet(8, 10, operands=kind), vgg(9, 10, width=16, operands=kind)
    return programs.Setting(name, source, target, l2t_jax.all_pairs((0, 2), range(5)), 32, kind)
programs.setting = narrow
sys.exit(compile_command.command(sys.argv[1:]))
"""


def test_a_programs_text_is_read():
    found = hlo.read(TEXT)
    assert found.collectives == {"all-reduce": 2, "all-gather": 1}
    assert found.collective_bytes == 4 * 8 + 2 * 16 + 4 * 32 + 4 * 8
    assert found.products == {"highest": 1, "default": 2}
    assert (found.loose_products, found.loose_pads) == (1, 1)
    assert found.loose_pad_bytes == 4 * 2 * 4 * 8 * 8


@pytest.mark.parametrize(
    ("precision", "milliseconds"), [("float32", 6.0), ("tensorfloat32", 3.0), ("bfloat16", 1.0)]
)
def test_the_least_time_is_that_of_arithmetic_or_of_traffic(precision, milliseconds):
    found = ahead_of_time.least_seconds(STEP, CHIPS["v5e"], precision)
    assert found == pytest.approx(1e-3 * milliseconds)
    slow = STEP._replace(moved=10 * 819e6)
    assert ahead_of_time.least_seconds(slow, CHIPS["v5e"], precision) == pytest.approx(1e-2)


def test_a_line_for_each_program_and_number_of_devices(monkeypatch, tmp_path, capsys):
    def compiled(method, chosen, batch, *, sources, on):
        if sources and len(on) == 1:
            raise DoesNotFitError("Used 18.00G of 15.75G")
        return STEP

    monkeypatch.setattr(ahead_of_time, "require_compiler", lambda: None)
    monkeypatch.setattr(ahead_of_time, "described", lambda topology: jax.devices() * 4)
    monkeypatch.setattr(ahead_of_time, "compile_step", compiled)
    path = tmp_path / "figures.json"
    words = ["--devices", "1", "4", "--precision", "bfloat16", "--json", str(path)]
    assert compile_command.command(words) == 1
    rows = capsys.readouterr().out.splitlines()[2:]
    assert len({row.count("|") for row in rows}) == 1
    assert (
        "| 1 | iteration, mixed, T=2, 15 pairs | does not fit: Used 18.00G of 15.75G |" in rows[3]
    )
    assert rows[4] == "| 4 | plain step | 3 | 1 | 1 | 197 | 0.82 | 1.0 | 2 | 0.0 | 1 all-gather |"
    figures = json.loads(path.read_text())
    assert figures["batch"] == 128
    assert [row["fits"] for row in figures["programs"]] == [True, False, True, True]
    assert figures["programs"][3]["operations"]["loose_pads"] == 1
    assert compile_command.command([*words, "--devices", "4"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--topology v9:2x2", "--topology … v9:2x2"),
        ("--topology v5e", "--topology … v5e:2x2 … v5e"),
        ("--devices 0", "--devices … 0"),
        ("--devices 3", "--batch-size … 3 … 128"),
        ("--batch-size 0", "--batch-size … 0"),
        ("--unroll-steps 0", "--unroll-steps … 0"),
        ("--modes other", "--modes … other"),
        ("--json nowhere/figures.json", "--json … nowhere"),
        ("", "libtpu … l2t_jax[tpu]"),
    ],
)
def test_bad_options_are_refused_in_one_line(words, message, monkeypatch, capsys):
    monkeypatch.setattr(ahead_of_time, "is_installed", lambda module: False)
    assert compile_command.command(words.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("compile: error: ")
    assert printed.err.count("\n") == 1
    assert says(printed.err, message)


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs libtpu, of the extra tpu"
)
def test_one_and_four_tpus_compile_to_fused_programs(tmp_path):
    path = tmp_path / "figures.json"
    words = ["--devices", "1", "4", "--precision", "float32", "--unroll-steps", "1"]
    done = subprocess.run(
        [sys.executable, "-c", NARROW, *words, "--json", str(path)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(path.read_text())["programs"]
    assert [row["devices"] for row in rows] == [1, 1, 4, 4]
    for row in rows:
        operations = row["operations"]
        assert set(operations["collectives"]) == ({"all-reduce"} if row["devices"] > 1 else set())
        assert operations["loose_products"] == operations["loose_pads"] == 0
        assert set(operations["products"]) == {"highest"}
    # A plain step: the eight batch norms' sums in one message each, on the way there and back, and
    # all gradients.
    assert rows[2]["operations"]["collectives"]["all-reduce"] <= 2 * 8 + 1
    assert rows[2]["moved"] < rows[0]["moved"]
    assert rows[3]["moved"] < rows[1]["moved"]


def test_a_batch_is_divided_over_each_number_of_devices():
    compile_command.check_divisible(12, (1, 4, 6))
    with pytest.raises(ValueError, match=r"--batch-size must be a multiple .*got 10 for 4 devices"):
        compile_command.check_divisible(10, (1, 4))
