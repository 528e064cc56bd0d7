"""Reads damaged and malicious files as the commands do, and tells what none of them may do.

    PYTHONPATH=. python tests/reliability/files.py --files 10000 --seed 0

Each file is read by a child process. A ValueError or OSError with a message is right, and so is a
result; where a zip file was damaged without new checksums, only the undamaged arrays are. All else
fails: other exceptions, more than 5 s, more than 1 GB, a child that dies, code that has run.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import malicious
import mutations
import numpy as np
import safetensors.numpy
from formats import READERS, Arrays, Format, all_formats
from tqdm import tqdm

MAX_SECONDS, MAX_BYTES = 5.0, 10**9
FILES_A_CHILD = 2000  # what compilers keep of many networks is no file's fault


class Case(NamedTuple):
    """A file: what it is, how it is read, and what it may give besides an error."""

    name: str
    format: str
    content: bytes
    original: int  # index of the undamaged file; -1 of none: it has to be refused
    checked: bool  # whether checksums tell the damage


class Answer(NamedTuple):
    """What became of a file."""

    outcome: str
    detail: str = ""
    seconds: float = 0.0
    grown: int = 0  # peak memory in bytes, above the child's before its first file


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000, help="damaged files of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--formats", nargs="*", help="some of the formats' names")
    options = parser.parse_args()
    formats = all_formats()
    originals = {name: read_all(kind) for name, kind in formats.items()}
    folder = Path(tempfile.mkdtemp(prefix="files-"))
    marker = folder / "made by a file"
    rows = []
    with Reader(folder, originals) as reader:
        for index, name in enumerate(formats):
            if not options.formats or name in options.formats:
                rng = np.random.default_rng((options.seed, index))
                cases = damaged(rng, name, formats[name], originals[name], options.files)
                rows.append(summary(name, reader, cases, options.files, marker))
        for name, files in [
            ("zip .pth", malicious.weight_files(marker)),
            ("npz images", malicious.image_files(marker)),
        ]:
            cases = (Case(title, name, content, -1, False) for title, content in files)
            rows.append(summary(f"malicious {name.split()[-1]}", reader, cases, None, marker))
    print(table(rows))
    failures = sum(row["failures"] for row in rows)
    if failures:
        print(f"{failures} failures; their files are in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


def read_all(kind: Format) -> list[Arrays]:
    """What a format's undamaged files hold."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for content in kind.files:
            path = Path(folder) / "file"
            path.write_bytes(content)
            found.append(kind.read(path))
    return found


def damaged(
    rng: np.random.Generator, name: str, kind: Format, originals: list[Arrays], count: int
) -> Iterator[Case]:
    """Damaged files of a format; half of the zip files with right checksums."""
    arrays = [list(original.values()) for original in originals]
    places = [mutations.structure(*pair) for pair in zip(kind.files, arrays, strict=True)]
    for number in range(count):
        which = number % len(kind.files)
        whole = kind.files[which]
        rewritten = kind.zipped and rng.random() < 0.5
        if rewritten:
            content = mutations.rewrite(rng, whole, arrays[which])
        else:
            content = mutations.damage(rng, whole, places[which])
        yield Case(f"{name} {number}", name, content, which, kind.zipped and not rewritten)


def summary(
    title: str, reader: Reader, cases: Iterator[Case], count: int | None, marker: Path
) -> dict[str, Any]:
    """Reads all cases: a row of the table."""
    answers = []
    for case in tqdm(cases, title, count, leave=False):
        answer = reader.read(case)
        if marker.exists():
            marker.unlink()
            answer = answer._replace(outcome="failure", detail="code has run")
        answers.append(answer)
        if answer.outcome == "failure":
            kept = reader.folder / f"failure {case.name[:60].replace('/', ' ')}"
            kept.write_bytes(case.content)
            tqdm.write(f"{case.name[:80]}: {answer.detail}")
    outcomes = Counter(answer.outcome for answer in answers)
    return {
        "format": title,
        "files": len(answers),
        "clear errors": outcomes["error"],
        "read, same": outcomes["same"],
        "read, other numbers": outcomes["other"],
        "failures": outcomes["failure"],
        "worst s": f"{max(answer.seconds for answer in answers):.2f}",
        "peak MB": f"{max(answer.grown for answer in answers) / 1e6:.0f}",
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = [list(rows[0]), ["---"] * len(rows[0])] + [list(map(str, r.values())) for r in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


class Reader:
    """Reads files in a child process, a new one after each that did not answer."""

    def __init__(self, folder: Path, originals: dict[str, list[Arrays]]) -> None:
        self.folder, self.originals = folder, originals
        self.left = 0
        self.child: Any = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.child = context.Process(target=answer_all, args=(other, self.originals), daemon=True)
        self.child.start()
        other.close()
        self.connection.recv()  # ready
        self.left = FILES_A_CHILD

    def stop(self) -> None:
        self.left = 0
        if self.child is not None:
            self.child.kill()
            self.child.join()

    def read(self, case: Case) -> Answer:
        if not self.left:
            self.stop()
            self.start()
        self.left -= 1
        path = self.folder / "file"
        path.write_bytes(case.content)
        self.connection.send((case.format, str(path), case.original, case.checked))
        if not self.connection.poll(MAX_SECONDS):
            self.stop()
            return Answer("failure", f"no end after {MAX_SECONDS} s", MAX_SECONDS)
        try:
            answer = self.connection.recv()
        except (EOFError, ConnectionError):
            self.stop()
            return Answer("failure", f"the process ended with {self.child.exitcode}")
        if answer.grown > MAX_BYTES:
            self.stop()
            return answer._replace(outcome="failure", detail=f"took {answer.grown / 1e6:.0f} MB")
        return answer


def answer_all(connection: Connection, originals: dict[str, list[Arrays]]) -> None:
    """The child: reads each file that it is told of."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:  # what is loaded at first use is no file's
        path = Path(folder) / "file"
        safetensors.numpy.save_file(originals["safetensors"][0], path)
        READERS["safetensors"](path)
    unraisable: list[Any] = []
    sys.unraisablehook = unraisable.append
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + 2 * MAX_BYTES  # so that what a file asks for is not taken from the machine
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    connection.send("ready")
    while True:
        name, file, number, checked = connection.recv()
        start = time.monotonic()
        try:
            result = READERS[name](Path(file))
        except (ValueError, OSError) as error:
            answer = Answer("error" if str(error).strip() else "failure", "an error without words")
        except BaseException as error:
            answer = Answer("failure", f"{type(error).__name__}: {error!s:.200}")
        else:
            same = number >= 0 and mutations.same(result, originals[name][number])
            answer = Answer("same" if same else "failure" if checked or number < 0 else "other")
            answer = answer._replace(detail="" if same else "read, though it is damaged")
        if unraisable:
            answer = Answer("failure", f"{unraisable.pop().exc_value!r:.200}")
        seconds = time.monotonic() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        connection.send(answer._replace(seconds=seconds, grown=peak - before))


if __name__ == "__main__":
    sys.exit(main())
