"""The commit of the working directory, found without running what the configuration of its repository names."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Final

SECONDS: Final = 10.0

# Looking takes no lock and fetches nothing; the names of other repositories, set where a hook of git started us, go.
_ASKED_FOR: Final = {"GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0"}

# How files lie on this disk. Of all that a repository can configure only this is taken over, because without it git
# would call files changed that are not.
_LAYOUT: Final = (
    *("core.autocrlf", "core.eol", "core.filemode", "core.ignorecase", "core.precomposeunicode", "core.symlinks"),
    *("core.repositoryformatversion", "extensions.objectformat"),
)


def working_commit(folder: str | os.PathLike[str] = ".") -> str | None:
    """The git commit of ``folder``, with ``-dirty`` where tracked files differ; None without git or repository.

    Git runs commands that a repository's own configuration names (``core.fsmonitor``, filters, hooks), and a folder
    from elsewhere may bring its repository along. Here git only reads references under that configuration; it compares
    the files under an empty one, made for the purpose. What filters change therefore counts as changed once its time
    stamp differs, unless the user's own configuration defines them; submodules are not looked into.
    """
    found = _git(folder, "rev-parse", "--show-toplevel", "--git-path", "objects", "--git-path", "index", "HEAD")
    if found is None or len(lines := found.splitlines()) != 4:
        return None
    *places, commit = lines
    top, objects, index = (str(Path(folder, place).absolute()) for place in places)
    with tempfile.TemporaryDirectory(prefix="edgescope-") as empty:
        _lay_out(Path(empty), commit, _git(folder, "config", "-z", "--get-regexp", r"^(core|extensions)\.") or "")
        ours = {"GIT_DIR": empty, "GIT_WORK_TREE": top, "GIT_OBJECT_DIRECTORY": objects, "GIT_INDEX_FILE": index}
        compare = ("diff", "--quiet", "--no-ext-diff", "--no-textconv", "--ignore-submodules=all", commit)
        same = _git(top, *compare, environment=ours)
    return commit if same is not None else f"{commit}-dirty"


def _lay_out(repository: Path, commit: str, configured: str) -> None:
    """An empty repository at ``commit`` with nothing but the layout of files configured."""
    (repository / "refs").mkdir()
    (repository / "objects").mkdir()
    (repository / "HEAD").write_text(f"{commit}\n", encoding="ascii")
    lines = []
    for entry in configured.split("\0"):
        name, _, value = entry.partition("\n")
        if name in _LAYOUT and value.isascii() and value.isalnum():  # true, input, sha256: nothing hides in a word
            section, _, key = name.partition(".")
            lines.append(f"[{section}]\n\t{key} = {value}\n")
    (repository / "config").write_text("".join(lines), encoding="ascii")


def _git(folder: str | os.PathLike[str], *arguments: str, environment: dict[str, str] | None = None) -> str | None:
    """What git answers in ``folder``; None where it fails or is not there."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        answer = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=SECONDS,
            env=inherited | _ASKED_FOR | (environment or {}),
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.removesuffix("\n")
