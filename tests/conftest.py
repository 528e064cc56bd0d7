"""Strict settings for every test, and the paths of what is kept outside the repository."""

import importlib.util
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import compiled_programs
import jax
import jaxtyping
import pytest

# What one test compiles, no other test and no process that it starts compiles again.
compiled_programs.keep()

# Shape annotations of the library are checked in every call; this has to come before its import.
# Not in what reads a pickle step by step: a hostile file has a million of them.
assert "l2t_jax" not in sys.modules
(FOLDER,) = importlib.util.find_spec("l2t_jax").submodule_search_locations
CHECKED = [
    ".".join(path.relative_to(Path(FOLDER).parent).with_suffix("").parts)
    for path in Path(FOLDER).rglob("*.py")
    if path.stem not in ("__init__", "pickles")
]
HOOK = jaxtyping.install_import_hook(CHECKED, "beartype.beartype")

jax.config.update("jax_enable_x64", True)

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
DATA, HELPERS = TESTS / "data", TESTS / "helpers"
SHARED = ROOT.parent / "shared"


def pytest_sessionstart(session: pytest.Session) -> None:
    """Once a run, before its processes start."""
    if not hasattr(session.config, "workerinput"):
        compiled_programs.clear_if_large()


@contextmanager
def quick_compiler() -> Iterator[None]:
    """Half of the time to compile a program, at a tenth of its speed: for a few small steps."""
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def quickly_compiled() -> Iterator[None]:
    """All of a module under `quick_compiler`."""
    with quick_compiler():
        yield


@pytest.fixture
def interrupt(monkeypatch) -> Iterator[Callable[[int, signal.Signals], None]]:
    """Makes the next run get a signal after so many of its steps (0: none)."""
    from experiments.training import loop

    take = loop.Training.take
    # Under nohup and the like Ctrl-C is ignored, which runs heed.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)

    def after(steps: int, number: signal.Signals = signal.SIGTERM) -> None:
        taken = 0

        def counted(self, batch):
            nonlocal taken
            take(self, batch)
            taken += 1
            if taken == steps:
                signal.raise_signal(number)

        monkeypatch.setattr(loop.Training, "take", counted)

    yield after
    signal.signal(signal.SIGINT, handler)


@pytest.fixture
def data_folder() -> Path:
    """Figures that the tests need."""
    return DATA


@pytest.fixture
def resnet8_weights(tmp_path) -> Path:
    """Weights of a ResNet-8 with ten classes, as drawn, for images of 8x8."""
    from experiments.networks import zoo

    path = tmp_path / "source.safetensors"
    images = jax.numpy.ones((1, 8, 8, 3), jax.numpy.float32)
    zoo.save(path, zoo.find("resnet8")(10).init(jax.random.key(0), images))
    return path


@pytest.fixture
def checkpoint() -> Path:
    """The authors' trained source network, or a skip that names it."""
    return needed("reference/tinyimagenet200_resnet32.pth.tar")


def needed(name: str) -> Path:
    """A file outside the repository; skips the test by the file's name where it is absent."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs {name}, which is not in the repository")
    return path
