"""A process that has imported what programs take, and carries out each of them in a fork of itself, so that the imports
are paid once. For tests. On other systems than Linux, where forks are unsafe or missing, each gets a new process.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import Final

FORKS: Final = sys.platform == "linux"

COMMAND: Final = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1]
"""How this process was started, without the arguments of its program."""

Invoke = Callable[[str, list[str]], int]
"""Carries out a task, given its kind and arguments, and gives an exit code."""

IMPORTED: Final = (
    *("altair", "jsonschema", "narwhals", "polars", "sklearn.datasets", "sympy", "vl_convert"),
    *("torch._dynamo", "torch.fx.experimental.proxy_tensor", "torch.distributed.fsdp"),
    *("edgescope.monitor.watch", "edgescope.figures", "edgescope.report", "edgescope.training", "edgescope.sweep"),
    *("edgescope.phases", "edgescope.flows", "edgescope.tuning", "edgescope.studies", "edgescope.cli"),
)
"""What most programs of the gallery and of the pages import, by themselves or when a function is called."""

PATIENCE: Final = 120
"""Seconds after which one of two workers that wait for each other is ended."""


class WarmProcess:
    """The process that runs the program ``server``, which calls :func:`serve`, with its ``options`` of Python.

    What a task prints is added to the file ``said``.
    """

    def __init__(self, server: Path, said: Path, *options: str) -> None:
        paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
        environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *options, str(server)]
        self.process = Popen(command, stdin=PIPE, stdout=PIPE, text=True, env=environment)
        self.said = said
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().rstrip("\n")

    def begin(self, kind: str, *arguments: str) -> int:
        """Begin a task; the number of its process."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps([kind, arguments, str(self.said)]) + "\n")
        self.process.stdin.flush()
        return int(self._line())

    def code(self) -> int:
        """The exit code of what is under way, when it has ended."""
        return int(self._line())

    def run(self, kind: str, *arguments: str) -> str:
        """Carry out a task whose exit code has to be 0; what it printed."""
        self.said.write_text("")
        self.begin(kind, *arguments)
        code, said = self.code(), self.said.read_text(encoding="utf-8")
        assert code == 0, said
        return said

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def programs(folder: Path) -> Iterator[WarmProcess]:
    """A process that runs Python as a user would, with every warning an error: no annotations are checked.

    Its tasks are "file" with a folder and the path of a program, "module" with a folder, a module and arguments, "pair"
    as "file" in two processes at once, with the arguments RANK FOLDER and warnings as they are by default, and "whole"
    as "file" in a process that ends as Python does: errors reach the top, and what is registered for the end is called.
    """
    made = WarmProcess(Path(__file__), folder / "said.txt", "-W", "error")
    try:
        yield made
    finally:
        made.close()


def serve(invoke: Invoke, imported: Iterable[str]) -> None:
    """Carry out ``invoke(kind, arguments)`` for each line of the input, and print its process and its exit code."""
    if len(sys.argv) > 1:  # a process for one task
        sys.exit(invoke(*json.loads(sys.argv[1])))
    # Imported only: what is used has threads of its own, which a fork does not get.
    for name in imported if FORKS else ():
        importlib.import_module(name)
    print("ready", flush=True)
    for line in sys.stdin:
        kind, arguments, output = json.loads(line)
        process, ended = start(invoke, kind, arguments, output)
        print(process, flush=True)
        print(ended(), flush=True)


def start(invoke: Invoke, kind: str, arguments: list[str], output: str = "") -> tuple[int, Callable[[], int]]:
    """Start a task whose output goes to a file, if one is named; its process, and what waits for its exit code."""
    if not FORKS:
        with open(output, "ab") if output else contextlib.nullcontext() as file:
            command = [*COMMAND, json.dumps([kind, arguments])]
            process = Popen(command, stdin=DEVNULL, stdout=file, stderr=file, start_new_session=True)
        return process.pid, process.wait
    child = os.fork()
    if child:
        return child, lambda: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    if output:
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for descriptor in (1, 2):
            os.dup2(file, descriptor)
        share_bundle(Path(output).with_name("bundle.js"))
    os.setsid()
    if kind == "whole":
        sys.exit(invoke(kind, arguments))
    try:
        code = invoke(kind, arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def share_bundle(path: Path) -> None:
    """Have the scripts of pages made by one task for all later ones: making them takes a second."""
    vl_convert = sys.modules.get("vl_convert")
    if vl_convert is None:
        return
    make = vl_convert.javascript_bundle

    def bundle(snippet: str) -> str:
        named = path.with_name(f"{sha256(snippet.encode()).hexdigest()}-{path.name}")
        if not named.exists():
            aside = named.with_suffix(f".{os.getpid()}")
            aside.write_bytes(make(snippet).encode())
            aside.replace(named)
        return named.read_bytes().decode()

    vl_convert.javascript_bundle = bundle


def invoke(kind: str, arguments: list[str]) -> int:
    """Carry out a task of :func:`programs`; "rank" is one of a pair."""
    folder, what, *rest = arguments
    os.chdir(folder)
    if kind == "pair":
        ranks = [start(invoke, "rank", [folder, what, str(rank), folder]) for rank in (0, 1)]
        return max(ended() != 0 for _, ended in ranks)
    if kind == "rank":
        warnings.resetwarnings()
        patience = threading.Timer(PATIENCE, os._exit, [1])
        patience.daemon = True
        patience.start()
    sys.argv = [what, *rest]
    try:
        if kind == "module":
            sys.path.insert(0, folder)
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            sys.path.insert(0, str(Path(what).parent))
            runpy.run_path(what, run_name="__main__")
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


if __name__ == "__main__":
    serve(invoke, IMPORTED)
