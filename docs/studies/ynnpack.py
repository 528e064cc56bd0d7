"""Whether XLA's CPU back end computes right with YNNPACK: small programs with it and without.

    python docs/studies/ynnpack.py [--calls 3] [--networks]

Each program is compiled twice in one process, with YNNPACK and without, and called several times on
random numbers. The reference is NumPy in float64, for networks the same program without YNNPACK in
float64. A value is wrong where it is off by more than 1e-4 of the largest (1e-10 in float64). The
table has a line for each kind of program: in how many of its shapes YNNPACK took part, in how many
there were wrong values with it and without it, the largest error of all, and whether repeated calls
differed. JAX issue 39103 is about such sums.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import optax

import l2t_jax
from l2t_jax.models import cifar_resnet, vgg

jax.config.update("jax_enable_x64", True)
# Importing the library turns YNNPACK off for some versions; JAX has not started yet.
os.environ["XLA_FLAGS"] = " ".join(
    flag for flag in os.environ.get("XLA_FLAGS", "").split() if "ynn_fusion_type" not in flag
)

WITHOUT = {"xla_cpu_experimental_ynn_fusion_type": ""}
LENGTHS = (1000, 20000, 32769, 40000)
Case = tuple[str, Callable, tuple[np.ndarray, ...], np.ndarray]


def programs(rng: np.random.Generator) -> Iterator[Case]:
    """Kind, function, arguments and the right values."""

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape)

    for n in LENGTHS:
        for k in (1, 3, 4, 16, 27):
            x, y, w = draw(n, k), draw(n, k), draw(3, k)
            yield "sum over rows", lambda x: jnp.sum(x, 0), (x,), x.sum(0)
            yield "sum over columns", lambda x: jnp.sum(x, 1), (x,), x.sum(1)
            yield "sum of all squares", lambda x: jnp.sum(jnp.square(x)), (x,), np.square(x).sum()
            yield "mean of squares (batch norm)", moments, (x,), moments_of(x)
            yield "sum of products", lambda x, y: jnp.sum(x * y, 0), (x, y), (x * y).sum(0)
            yield "max over columns", lambda x: jnp.max(x, 1), (x,), x.max(1)
            yield "x @ w.T", lambda x, w: x @ w.T, (x, w), x @ w.T
            yield "w @ x.T", lambda x, w: w @ x.T, (x, w), w @ x.T
            yield "x.T @ y", lambda x, y: x.T @ y, (x, y), x.T @ y
            yield "relu(x @ w.T)", lambda x, w: jax.nn.relu(x @ w.T), (x, w), (x @ w.T).clip(0)
            squares = np.square(x @ w.T)
            yield "sum((x @ w.T)², 1)", products(False, 1), (x, w), squares.sum(1)
            yield "sum((x @ w.T)², 0)", products(False, 0), (x, w), squares.sum(0)
            yield "sum((w @ x.T)², 0)", products(True, 0), (x, w), squares.sum(1)
            yield "sum((w @ x.T)², 1)", products(True, 1), (x, w), squares.sum(0)


def moments(x: jax.Array) -> jax.Array:
    mean = jnp.mean(x, 0)
    return jnp.mean(jnp.square(x - mean), 0)


def moments_of(x: np.ndarray) -> np.ndarray:
    return x.var(0)


def products(turned: bool, axis: int) -> Callable:
    def function(x, w):
        return jnp.sum(jnp.square(w @ x.T if turned else x @ w.T), axis)

    return function


def networks(rng: np.random.Generator) -> Iterator[tuple[str, Callable, tuple]]:
    """Gradients and meta-gradients of small networks: kind, function, arguments in float64."""
    images = rng.standard_normal((16, 32, 32, 3))
    labels = rng.integers(0, 10, 16).astype(np.int32)
    network = vgg(9, classes=10)
    variables = network.init(jax.random.key(0), images)

    def loss(params, state, images, labels):
        logits = network.apply(l2t_jax.Variables(params, state), images, train=True).logits
        return l2t_jax.cross_entropy(logits, labels)

    yield "gradient of VGG-9, batch 16", jax.grad(loss), (*variables, images, labels)
    small = cifar_resnet(8, classes=10)
    method = l2t_jax.l2t(
        small,
        small,
        l2t_jax.all_pairs((1, 2), range(3)),
        optimizer=optax.sgd(0.01, momentum=0.9),
        meta_optimizer=optax.chain(optax.trace(0.0), optax.scale(0.0)),  # keeps the gradient
    )
    source = small.init(jax.random.key(1), images)
    batch = l2t_jax.Batch(jnp.asarray(images), jnp.asarray(labels))
    state = method.init(jax.random.key(2), source, batch)

    def meta_gradient(state, source, batch):
        return method.step(state, source, batch)[0].meta_opt_state[0].trace

    yield "meta-gradient of ResNet-8 to itself, batch 16", meta_gradient, (state, source, batch)


def cast(tree, dtype):
    return jax.tree.map(
        lambda a: jnp.asarray(a, dtype if jnp.issubdtype(a.dtype, jnp.floating) else a.dtype), tree
    )


def flat(tree) -> np.ndarray:
    return np.concatenate([np.asarray(a, np.float64).ravel() for a in jax.tree.leaves(tree)])


class Tally:
    """What one kind of program in one type came to; times are CPU time, the least of the calls."""

    def __init__(self) -> None:
        self.shapes = self.fused = self.wrong_with = self.wrong_without = self.unlike = 0
        self.error_with = self.error_without = self.seconds_with = self.seconds_without = 0.0

    def add(
        self, function: Callable, args: tuple, want: np.ndarray | None, dtype, calls
    ) -> np.ndarray:
        """Takes one more shape in, and gives what came without YNNPACK."""
        # Fresh functions: jax.jit keeps programs by function and arguments, not by options.
        on = jax.jit(lambda *a: function(*a)).lower(*args).compile()
        off = jax.jit(lambda *a: function(*a), compiler_options=WITHOUT).lower(*args).compile()
        assert "__ynn_fusion" not in off.as_text()
        results, times_with = called(on, args, calls)
        (plain, *_), times_without = called(off, args, calls)
        reference = plain if want is None else want.ravel()
        limit = 1e-4 if dtype == np.float32 else 1e-10
        scale = np.abs(reference).max()
        with_it = max(np.abs(result - reference).max() for result in results) / scale
        without = np.abs(plain - reference).max() / scale
        self.shapes += 1
        self.fused += "__ynn_fusion" in on.as_text()
        self.wrong_with += with_it > limit
        self.wrong_without += without > limit
        self.unlike += any((result != results[0]).any() for result in results)
        self.error_with = max(self.error_with, with_it)
        self.error_without = max(self.error_without, without)
        self.seconds_with += min(times_with)
        self.seconds_without += min(times_without)
        return plain


def called(program: Callable, args: tuple, calls: int) -> tuple[list[np.ndarray], list[float]]:
    """Results and CPU times of so many calls."""
    results, times = [], []
    for _ in range(calls):
        start = time.process_time()
        results.append(flat(program(*args)))
        times.append(time.process_time() - start)
    return results, times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=3)
    parser.add_argument("--networks", action="store_true", help="these instead of the sums")
    args = parser.parse_args()
    tallies: dict[tuple[str, str], Tally] = {}
    rng = np.random.default_rng(0)
    cases = networks(rng) if args.networks else programs(rng)
    for kind, function, given, *known in cases:
        want = np.asarray(known[0]) if known else None
        for dtype in (np.float64, np.float32):
            tally = tallies.setdefault((kind, np.dtype(dtype).name), Tally())
            plain = tally.add(function, cast(given, dtype), want, dtype, args.calls)
            want = plain if want is None else want
    print(f"jaxlib {jaxlib.__version__}, {args.calls} calls\n")
    print(
        "| program | type | shapes | of them with YNNPACK | wrong with | wrong without "
        "| largest error with | without | calls differ | CPU seconds with | without |"
    )
    print("| --- | --- " + "| ---: " * 9 + "|")
    for (kind, dtype), t in tallies.items():
        print(
            f"| {kind} | {dtype} | {t.shapes} | {t.fused} | {t.wrong_with} | {t.wrong_without} "
            f"| {t.error_with:.1e} | {t.error_without:.1e} | {t.unlike} "
            f"| {t.seconds_with:.3f} | {t.seconds_without:.3f} |"
        )


if __name__ == "__main__":
    main()
