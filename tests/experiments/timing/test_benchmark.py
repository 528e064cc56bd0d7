"""The benchmark runs, and writes what it printed."""

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

import l2t_jax
from experiments import benchmark
from experiments.timing import loop_rate, programs
from experiments.training import jitted, loop
from l2t_jax import Batch
from l2t_jax.models import cifar_resnet

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.mark.slow
def test_the_benchmark_writes_its_ratios(tmp_path, capsys, monkeypatch):
    """On small networks, which compile sooner."""
    source, target = cifar_resnet(14, classes=10), cifar_resnet(8, classes=10)
    pairs = l2t_jax.all_pairs((1, 3, 5), range(3))
    small = programs.Setting("ResNet-8", source, target, pairs, 8, None)
    monkeypatch.setattr(programs, "setting", lambda name, precision: small)
    monkeypatch.setattr(programs, "SIDE", 512)
    path = tmp_path / "figures.json"
    options = ["--batch", "2", "--repeats", "1", "--json", str(path)]
    assert benchmark.main([*options, "--modes", "mixed", "finite-difference"]) == 0
    printed = capsys.readouterr().out
    figures = json.loads(path.read_text())
    rows = figures["programs"]
    assert all(f"| {name} |" in printed for name in rows)
    mixed = rows[programs.iteration("mixed", 2, 9)]
    differences = rows[programs.iteration("finite-difference", 2, 9)]
    assert figures["iteration_over_plain_step"] == mixed["over_plain_step"]
    assert figures["finite_difference_over_mixed"] > 0
    assert mixed["over_plain_step"] > 1
    assert differences["gflop"] < 0.9 * mixed["gflop"]
    assert rows[programs.MATRICES]["share_of_matrix_rate"] == 1
    assert f"{100 * figures['loop_over_bare_step']:.1f} %" in printed


@pytest.mark.slow
def test_an_iteration_has_none_of_the_slow_forms_of_convolution():
    """On a CPU: each derivative in the one form that is fast, none on maps of a few positions."""
    batch = Batch(jnp.zeros((2, 32, 32, 3), jnp.float32), jnp.arange(2))
    small = programs.setting("small", "float32")
    source = jax.eval_shape(small.source.init, jax.random.key(0), batch.images)
    method = l2t_jax.l2t(
        small.source,
        small.target,
        small.pairs,
        optimizer=programs.SGD,
        meta_optimizer=programs.ADAM,
    )
    state = jax.eval_shape(method.init, jax.random.key(0), source, batch)
    lowered = jax.jit(method.step).lower(state, source, batch)
    plain = l2t_jax.baselines.scratch(small.target, optimizer=programs.SGD)
    plain_state = jax.eval_shape(plain.init, jax.random.key(0), None, batch)
    step = jax.jit(plain.step).lower(plain_state, None, batch)
    whole, three = (each.cost_analysis()["flops"] for each in (lowered, step))
    # In forward passes of the target, of which a plain step takes three; with the source's one.
    assert whole / (three / 3) < 33
    program = lowered.as_text()
    convolutions = re.findall(r"stablehlo.convolution.*", program)
    # Of the source, and of the target's first six layers in all derivatives.
    assert len(convolutions) > 31 + 6 * 9
    fast = [  # forward, by images, by kernel
        "[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]",
        "[b, 0, 1, f]x[0, 1, o, i]->[b, 0, 1, f]",
        "[f, 0, 1, b]x[i, 0, 1, o]->[0, 1, b, f]",
    ]
    for convolution in convolutions:
        assert any(form in convolution for form in fast)
        assert "reverse = [false, false]" in convolution
        assert "lhs_dilate = [1, 1]" in convolution
        images = re.search(r": \(tensor<(\d+x){4}f32>", convolution)[0]
        assert not re.search(r"[<x]2x2x", images), convolution  # maps of a few positions
    assert "reduce_window" not in program


def test_the_line_through_the_ratios_is_the_nearest():
    line = benchmark.line("T", [1, 2, 4], [3.0, 5.0, 9.0])
    assert line.startswith("iteration ÷ plain step: 1.00 + 2.00 · T;")
    assert "at most 0 %" in line
    assert "at most 50 %" in benchmark.line("T", [0, 1, 2], [1.0, 2.5, 1.0])


@pytest.mark.slow
def test_the_loops_rate_is_without_the_bare_steps_beside_it(monkeypatch):
    """By a clock that a step moves by a second, in the loop and beside it."""
    clock = SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
    monkeypatch.setattr(loop_rate, "time", clock)
    monkeypatch.setattr(loop, "time", clock)
    compile_method = jitted.compile_method

    def ticking(*arguments):
        compiled = compile_method(*arguments)

        def step(*given):
            clock.now += 1.0
            return compiled.step(*given)

        return compiled._replace(step=step)

    monkeypatch.setattr(jitted, "compile_method", ticking)
    in_loop, bare = loop_rate.seconds_per_step(cifar_resnet(8, classes=10), 8, 2, 3)
    assert bare == in_loop == [1.0] * 3


def test_bad_options_are_refused(capsys):
    for options in (
        ["--batch", "0"],
        ["--pairs", "16"],
        ["--peer", "other"],
        ["--peer", "torch", "--setting", "large"],
        ["--modes", "other"],
        ["--json", "nowhere/figures.json"],
    ):
        with pytest.raises(SystemExit):
            benchmark.main(options)
        assert "error: " in capsys.readouterr().err


def test_it_imports_only_what_any_accelerator_machine_has():
    """And the library's annotations cost a user nothing: jaxtyping stays out."""
    code = (
        "import sys, jax, flax.linen, flax.nnx, optax, numpy, tempfile\n"
        "before = set(sys.modules)\n"
        "import experiments.benchmark\n"
        "names = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "known = {name.partition('.')[0] for name in before}\n"
        "print(sorted(names - known - sys.stdlib_module_names - {'experiments', 'l2t_jax'}))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


class HidesLibraryCalls:
    """A GPU's compiled program, whose products the compiler does not count."""

    def cost_analysis(self):
        return {"flops": -32.0}


def test_a_gpus_products_are_counted_before_they_become_library_calls():
    matrices = [jnp.ones((30, 40)), jnp.ones((40, 50))]
    program = jax.jit(jnp.matmul).lower(*matrices).compile()
    exactly = 2 * 30 * 40 * 50 / 1e9
    for counted, platform in ((HidesLibraryCalls(), "gpu"), (program, "cpu")):
        assert programs.gflop(jnp.matmul, matrices, counted, platform) == pytest.approx(exactly)
