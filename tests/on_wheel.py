"""Builds the wheel and the sdist, and runs the library's tests on the installed wheel.

Usage: python tests/on_wheel.py [FOLDER]

The tests run in an environment of its own, in FOLDER (build/wheel if not given), from copies that
lie far from the checkout: nothing but the wheel can answer `import l2t_jax`.
"""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
# The library's tests, and what they share. Those of the commands need the checkout.
ROOMS = ("data", "helpers", "library", "reliability")
# The tests know the commands by the checkout's name.
SHIM = "import sys\n\nimport l2t_jax_experiments\n\nsys.modules[__name__] = l2t_jax_experiments\n"


def main(folder: Path) -> int:
    shutil.rmtree(folder, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", folder / "dist", CHECKOUT)
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / "bin" / "python"
    (wheel,) = (folder / "dist").glob("*.whl")
    run(
        python, "-m", "pip", "install", "--quiet", "--constraint", CHECKOUT / "requirements.txt",
        f"{wheel}[experiments,test]",
    )  # fmt: skip
    here = folder / "away"
    for name in ROOMS:
        shutil.copytree(CHECKOUT / "tests" / name, here / "tests" / name)
    shutil.copy(CHECKOUT / "tests" / "conftest.py", here / "tests")
    (folder / "shim").mkdir()
    (folder / "shim" / "experiments.py").write_text(SHIM)
    shutil.copy(CHECKOUT / "pyproject.toml", here)
    code = "import l2t_jax, sys; print(l2t_jax.__file__, sys.version.split()[0])"
    run(python, "-c", code, cwd=here)
    done = subprocess.run(
        [python, "-m", "pytest", "-n", "auto", "--rootdir", here, here / "tests"],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(folder / "shim")},
        check=False,
    )
    return done.returncode


def run(*words: object, cwd: Path = CHECKOUT) -> None:
    subprocess.run([str(word) for word in words], cwd=cwd, check=True)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else CHECKOUT / "build/wheel").absolute()))
