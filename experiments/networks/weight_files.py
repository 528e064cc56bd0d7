"""Files of weights: on this machine, or by name on the Hugging Face Hub."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ..system.extra import is_installed

PREFIX = "hf:"
FORM = "hf:ORG/NAME[@REVISION][:FILE]"
NAME = re.compile(
    r"hf:(?P<repository>[^/@:\s]+/[^/@:\s]+)(?:@(?P<revision>[^:\s]+))?(?::(?P<file>.+))?"
)
COMMIT = re.compile(r"[0-9a-f]{40}")
SUFFIX = ".safetensors"
# Several times what the largest bundled network has. A mistyped name must not fill the disk.
MAX_BYTES = 4 * 1024**3
INSTALL = 'pip install "l2t_jax[hub]"'
LOG_IN = "hf auth login"
LISTED = 10


class Found(NamedTuple):
    """A file of weights that is on this machine.

    Attributes:
      file: where it is.
      name: what it was found by. A name on the Hub has the commit and the file in it.
    """

    file: Path
    name: str


class Wanted(NamedTuple):
    """A name on the Hub, in its parts."""

    repository: str
    revision: str | None
    file: str | None

    def pinned(self, commit: str, file: str) -> str:
        """The name of a file of one commit."""
        return f"{PREFIX}{self.repository}@{commit}:{file}"


def on_hub(name: str) -> bool:
    """Whether it is a name on the Hub, and not a path."""
    return name.startswith(PREFIX)


def check(option: str, name: str) -> None:
    """Checks a name as far as that can be done without the network.

    Args:
      option: the option that has it, such as ``--source-weights``.
      name: a path or a name on the Hub.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the name on the Hub has another form, or nothing can read it here.
    """
    if not on_hub(name):
        if not Path(name).is_file():
            raise FileNotFoundError(f"{option} {name}: no such file")
        return
    wanted = parse(name)
    if wanted is None:
        raise ValueError(f"{option} must be a file or {FORM} (got {name})")
    if wanted.file is not None and not wanted.file.endswith(SUFFIX):
        raise ValueError(f"{option} must be a {SUFFIX} file of the Hub (got {name})")
    if not is_installed("huggingface_hub"):
        raise ValueError(
            f"{option} {name} needs huggingface_hub, which is not installed; install it: {INSTALL}"
        )


def parse(name: str) -> Wanted | None:
    """The parts of a name on the Hub; None if it has another form."""
    match = NAME.fullmatch(name)
    return None if match is None else Wanted(**match.groupdict())


def find(name: str) -> Found:
    """The file of that name, from the Hub or its cache where it is a name on the Hub.

    It shows the progress of a download. Where the Hub cannot be reached, the cache's latest commit
    of that revision is taken, and a line on stderr tells so.

    Args:
      name: a path or a name on the Hub that `check` takes.

    Raises:
      ValueError: there is no such repository, revision or file, it may not be read, it is too
        large, or it is no safetensors file.
      OSError: the Hub cannot be reached and the cache does not have the file.
    """
    if not on_hub(name):
        return Found(Path(name), name)
    wanted = parse(name)
    assert wanted is not None
    found = _of_commit(wanted) or _from_hub(name, wanted)
    with found.file.open("rb") as file:
        begin = file.read(9)
    # So begins a safetensors file: its header's length, then the header in JSON.
    if begin[8:] != b"{":
        raise ValueError(f"{name} must be a safetensors file (got one that begins with {begin!r})")
    return found


def _of_commit(wanted: Wanted) -> Found | None:
    """A file of one commit, which cannot change, if it is in the cache."""
    from huggingface_hub import try_to_load_from_cache

    repository, revision, file = wanted
    if revision is None or file is None or not COMMIT.fullmatch(revision):
        return None
    path = try_to_load_from_cache(repository, file, revision=revision)
    return Found(Path(path), wanted.pinned(revision, file)) if isinstance(path, str) else None


def _from_hub(name: str, wanted: Wanted) -> Found:
    from huggingface_hub import HfApi, hf_hub_download

    repository, revision, _ = wanted
    try:
        with _in_our_words(name, wanted):
            info = HfApi().model_info(repository, revision=revision, files_metadata=True)
            sizes = {each.rfilename: each.size or 0 for each in info.siblings or ()}
            file = _choose(name, wanted, list(sizes))
            if sizes[file] > MAX_BYTES:
                raise ValueError(
                    f"{name} must have at most {MAX_BYTES / 1024**3:g} GiB (got {file} with "
                    f"{sizes[file] / 1024**3:.1f} GiB)"
                )
            path = Path(hf_hub_download(repository, file, revision=revision))
    except ConnectionError as error:
        found = _from_cache(name, wanted)
        if found is None:
            raise ConnectionError(f"{error}; its cache does not have {name} either") from None
        print(f"{error}; {found.name} is taken from its cache", file=sys.stderr)
        return found
    # The cache has a folder for each commit. What the file's revision was then, is its name.
    commit = path.parents[len(PurePosixPath(file).parts) - 1].name
    return Found(path, wanted.pinned(commit, file))


def _from_cache(name: str, wanted: Wanted) -> Found | None:
    from huggingface_hub import CacheNotFound, constants, scan_cache_dir

    try:
        repositories = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return None
    revision = wanted.revision or "main"
    for repository in repositories:
        if (repository.repo_type, repository.repo_id) != ("model", wanted.repository):
            continue
        for commit in repository.revisions:
            if revision in (commit.commit_hash, *commit.refs):
                folder = commit.snapshot_path
                files = {each.file_path.relative_to(folder).as_posix() for each in commit.files}
                there = [file for file in sorted(files) if file.endswith(SUFFIX)]
                if wanted.file in there or (wanted.file is None and there):
                    file = _choose(name, wanted, there)
                    return Found(folder / file, wanted.pinned(commit.commit_hash, file))
    return None


def _choose(name: str, wanted: Wanted, files: Iterable[str]) -> str:
    """The file that is named, or the only one that it can be.

    Raises:
      ValueError: there is none or there are several.
    """
    there = sorted(file for file in files if file.endswith(SUFFIX))
    more = f" and {len(there) - LISTED} more" if len(there) > LISTED else ""
    listed = ", ".join(there[:LISTED]) + more
    if wanted.file is not None:
        if wanted.file not in there:
            raise ValueError(
                f"{name} must be a file of {wanted.repository} (got no such file); its safetensors "
                f"files are: {listed or 'none'}"
            )
        return wanted.file
    if not there:
        raise ValueError(f"{name} must have a {SUFFIX} file (got none)")
    if len(there) > 1:
        raise ValueError(
            f"{name} must name one of the repository's files (got {len(there)}: {listed}); add "
            f":FILE, as in {name}:{there[0]}"
        )
    return there[0]


@contextlib.contextmanager
def _in_our_words(name: str, wanted: Wanted) -> Iterator[None]:
    """Turns the library's errors into a ValueError, or a ConnectionError without an answer."""
    from huggingface_hub import errors

    unknown = (
        f"{name} must be a repository on the Hub (got none, or a private one); check its name, or "
        f"log in: {LOG_IN}"
    )
    try:
        yield
    except (errors.GatedRepoError, errors.DisabledRepoError):
        raise ValueError(
            f"{name} must be a repository that you may read (got a gated one); ask for access on "
            f"its page, then log in: {LOG_IN}"
        ) from None
    except errors.RepositoryNotFoundError:
        raise ValueError(unknown) from None
    except errors.RevisionNotFoundError:
        raise ValueError(
            f"{name} must have that revision (got no {wanted.revision} in {wanted.repository})"
        ) from None
    except errors.HFValidationError as error:
        raise ValueError(f"{name} must be a name that the Hub allows (got {error})") from None
    except errors.HfHubHTTPError as error:
        # To strangers the Hub says 401 of a private repository and of one that does not exist.
        if error.response.status_code in (401, 403):
            raise ValueError(unknown) from None
        raise ConnectionError(f"the Hub must answer (got {_short(error)})") from None
    except errors.OfflineModeIsEnabled:
        raise ConnectionError("the Hub is not asked, as HF_HUB_OFFLINE says") from None
    except ValueError:
        raise
    # What carries the requests differs between the library's versions, and so do its errors.
    except Exception as error:
        of_system = isinstance(error, OSError) and error.errno is not None
        if of_system and not isinstance(error, ConnectionError):
            raise  # such as a full disk
        raise ConnectionError(f"the Hub must be reachable (got {_short(error)})") from None


def _short(error: BaseException) -> str:
    error = error.__cause__ or error
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]:.200}"
