"""Results on a GPU beside the same on the CPU in float64: run ``python benchmarks/gpu_check.py``, about two minutes.

Prints a line a check: the largest relative difference, or the error. ``--only times`` is the table of times that
``make test-device`` prints after its tests. Says so in one line where there is no GPU; ``--present`` says nothing else.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from gpu_times import CROSS_ENTROPY, DOUBLE, SINGLE, Check, drawn, labels, times
from torch import Tensor, nn

import edgescope as es
from edgescope.linalg import DiagonalMetric, frobenius
from edgescope.objective.samples import sample_gradients, sample_losses
from edgescope.store import latest_checkpoint, pack_state, rng_state, save_checkpoint, set_rng_state, unpack_state
from edgescope.training.stack import Member, Stack


class Recurrent(nn.Module):
    """An LSTM with a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.LSTM(6, 10, batch_first=True), nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.inner(x)[0][:, -1])


class Attention(nn.Module):
    """A transformer block with a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.1, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.inner(x).mean(1))


MODELS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "mlp": (lambda: es.MODELS.build("mlp:widths=24x24,activation=tanh").build((12,), 4, seed=0), drawn(96, 12)),
    "batch norm": (
        lambda: nn.Sequential(nn.Linear(12, 20), nn.BatchNorm1d(20), nn.Tanh(), nn.Linear(20, 4)),
        drawn(96, 12),
    ),
    "resnet": (
        lambda: es.MODELS.build("resnet:widths=8x16,blocks=1").build((3, 16, 16), 4, seed=0),
        drawn(48, 3, 16, 16),
    ),
    "vit": (lambda: es.MODELS.build("vit").build((1, 16, 16), 4, seed=0), drawn(32, 1, 16, 16)),
    "attention, dropout": (Attention, drawn(32, 6, 16)),
    "lstm": (Recurrent, drawn(32, 5, 6)),
}
GEOMETRIES = ("euclidean", "linf", "spectral", "blocks", "diagonal", "diagonal:preconditioner=log-uniform", "mixed")
OPTIMIZERS = (
    "sgd:momentum=0.9",
    "adamw",
    "rmsprop",
    "steepest:geometry=spectral,normalized=true",
    "langevin:temperature=0.001",
)


def problem(name: str, dtype: torch.dtype, device: torch.device | str) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    make, inputs = MODELS[name]
    torch.manual_seed(0)
    return make().to(device, dtype), (inputs.to(device, dtype), labels(len(inputs), 4).to(device))


def objective(name: str, dtype: torch.dtype, device: torch.device | str, **options: Any) -> es.Objective:
    model, data = problem(name, dtype, device)
    return es.Objective(model, CROSS_ENTROPY, data, **options)


def off(found: Any, wanted: Any) -> str:
    a, b = (torch.as_tensor(value).detach().double().cpu() for value in (found, wanted))
    return f"{float((a - b).abs().max() / b.abs().max().clamp(min=1e-300)):.0e}"


def objectives(device: torch.device) -> Iterator[tuple[str, Callable[[], str]]]:
    for name in MODELS:
        for dtype in (DOUBLE, SINGLE):

            def compare(name: str = name, dtype: torch.dtype = dtype) -> str:
                a, b = objective(name, DOUBLE, "cpu"), objective(name, dtype, device)
                V = drawn(a.size, 3, seed=3)
                found, again = (b.hvp(V.to(device, dtype)) for _ in range(2))
                return (
                    f"loss {off(b.loss(), a.loss())}, gradient {off(b.gradient(), a.gradient())}, products "
                    f"{off(found, a.hvp(V))}, Gauss-Newton {off(b.gnvp(V), a.gnvp(V))}, "
                    f"{'repeats' if torch.equal(found, again) else f'repeats to {off(again, found)}'}"
                )

            yield f"{name}, {dtype}", compare


def estimates(device: torch.device) -> Iterator[tuple[str, Callable[[], str]]]:
    def value(found: Any) -> Any:
        return getattr(found, "value", found)

    measured: dict[str, Callable[[es.Objective], Any]] = {
        "eigenvalues": lambda o: es.top_eigenpairs(o, k=3, tol=1e-5).values,
        "eigenvalues in a metric from the CPU": lambda o: (
            es.top_eigenpairs(
                o, k=2, tol=1e-5, metric=DiagonalMetric(torch.linspace(0.5, 2, o.size, dtype=DOUBLE))
            ).values
        ),
        "tracker": lambda o: es.EigenTracker(o, tol=1e-5).update().values,
        "exact spectrum": lambda o: es.spectrum(o, method="exact").trace,
        "Lanczos spectrum": lambda o: es.spectrum(o, method="slq", probes=2, steps=30).density(torch.ones(3)),
        "trace": es.trace,
        "Frobenius norm": frobenius,
        "sharpness dimension": lambda o: es.sharpness_dimension(o, lr=0.5, batch_size=16, batches=3).dimension,
        "losses of samples": sample_losses,
        "gradients of samples": lambda o: torch.cat([g.flatten() for g in sample_gradients(o, 6, 0)]),
        "Lyapunov exponents": lambda o: es.lyapunov_exponents(o, 2, lr=0.3, steps=5).exponents,
    }
    for name, measure in measured.items():
        yield (
            name,
            lambda measure=measure: ", ".join(
                off(value(measure(objective("mlp", dtype, device))), value(measure(objective("mlp", DOUBLE, "cpu"))))
                for dtype in (DOUBLE, SINGLE)
            ),
        )


def geometries(device: torch.device) -> Iterator[tuple[str, Callable[[], str]]]:
    def compare(spec: str, name: str) -> str:
        found = []
        for dtype, where in ((DOUBLE, "cpu"), (DOUBLE, device), (SINGLE, device)):
            o = objective(name, dtype, where)
            bracket = es.generalized_sharpness(o, spec, iterations=20, restarts=4)
            w, g = o.parameters(), o.gradient()
            found.append((bracket.lower, bracket.upper, es.directional_smoothness(o, w, w - 0.05 * g, spec).value))
        return "; ".join(", ".join(off(x, y) for x, y in zip(one, found[0], strict=True)) for one in found[1:])

    for spec in GEOMETRIES:
        yield f"generalized sharpness, smoothness, {spec}", lambda spec=spec: compare(spec, "mlp")


def stepped(spec: str, device: torch.device | str, dtype: torch.dtype, folder: Path | None = None) -> Tensor:
    """Parameters after 8 steps; with a folder after 4 of another run, its checkpoint, and 4 more."""

    def begin() -> tuple[nn.Module, torch.optim.Optimizer, Callable[[], None]]:
        model, data = problem("mlp", dtype, device)
        optimizer = es.OPTIMIZERS.build(spec).build(list(model.parameters()), lr=0.01)

        def step() -> None:
            optimizer.zero_grad()
            CROSS_ENTROPY(model, data).backward()
            optimizer.step()

        return model, optimizer, step

    torch.manual_seed(2)
    model, optimizer, step = begin()
    for number in range(8):
        if folder is not None and number == 4:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "rng": rng_state()}
            packed = [pack_state(name, one) for name, one in state.items()]
            tensors = {name: tensor for one, _ in packed for name, tensor in one.items()}
            save_checkpoint(folder, 4, tensors, {name: one for _, meta in packed for name, one in meta.items()})
            model, optimizer, step = begin()
            kept = latest_checkpoint(folder)
            assert kept is not None
            model.load_state_dict(unpack_state("model", kept.tensors, kept.meta))
            optimizer.load_state_dict(unpack_state("optimizer", kept.tensors, kept.meta))
            set_rng_state(unpack_state("rng", kept.tensors, kept.meta))
        step()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def training(device: torch.device) -> Iterator[tuple[str, Callable[[], str]]]:
    def resumed(spec: str) -> str:
        whole = stepped(spec, device, SINGLE)
        with tempfile.TemporaryDirectory() as folder:
            same = torch.equal(stepped(spec, device, SINGLE, Path(folder)), whole)
        return (
            f"resumed {'bit for bit' if same else 'OTHERWISE'}, from the CPU {off(whole, stepped(spec, 'cpu', DOUBLE))}"
        )

    for spec in OPTIMIZERS:
        yield f"training, {spec}", lambda spec=spec: resumed(spec)

    def stack() -> str:
        found = []
        for where in ("cpu", device):
            models = [es.MODELS.build("mlp:widths=16").build((12,), 4, seed=s).double().to(where) for s in range(3)]
            data = problem("mlp", DOUBLE, where)[1]
            stack = Stack(models, CROSS_ENTROPY, data, [Member(0.1 * (s + 1), s, 0.5, 0.01) for s in range(3)], 8)
            for _ in range(5):
                stack.step()
            found.append(stack.losses(data))
        return off(found[1], found[0])

    yield "a stack of models", stack


def monitored(device: torch.device) -> Iterator[tuple[str, Callable[[], str]]]:
    def run(dtype: torch.dtype, where: torch.device | str, spec: str, monitor: bool, cast: bool) -> Any:
        torch.manual_seed(0)
        model, data = problem("mlp", dtype, where)
        optimizer = es.OPTIMIZERS.build(spec).build(list(model.parameters()), lr=0.01)
        special = ["settled_norms:steps=8", "quadratic_model:steps=8"]
        names = [n for n in es.MEASURES if n not in ("persistent_homology", "time", "settled_norms", "quadratic_model")]
        watch = es.Monitor(es.Objective(model, CROSS_ENTROPY, data), optimizer, every=2, measures=names + special)
        for _ in range(6):
            optimizer.zero_grad()
            with torch.autocast(torch.device(where).type, torch.bfloat16, enabled=cast):
                loss = CROSS_ENTROPY(model, data)
            loss.backward()
            optimizer.step()
            if monitor:
                watch.step()
        kept = torch.cat([p.detach().flatten() for p in model.parameters()])
        states = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]
        table = watch.table()
        watch.close()
        return kept, states, table

    def compare(dtype: torch.dtype, spec: str, cast: bool) -> str:
        _, _, there = run(dtype, device, spec, True, cast)
        _, _, here = run(DOUBLE if not cast else SINGLE, "cpu", spec, True, cast)
        worst: dict[str, float] = {}
        for _, name, _, a, b in (
            here.join(there, on=["step", "measure", "part"], suffix="_there")
            .select("step", "measure", "part", "value", "value_there")
            .iter_rows()
        ):
            if a is not None and b is not None and abs(a) < 1e300:
                worst[name] = max(worst.get(name, 0.0), abs(a - b) / max(abs(a), 1e-12))
        last = max(worst, key=lambda name: worst[name])
        return f"{len(there)} values of {len(here)}; farthest {last} {worst[last]:.0e}"

    for spec in ("sgd:momentum=0.9", "adamw", "steepest:geometry=spectral,normalized=true"):
        for dtype in (DOUBLE, SINGLE):
            yield f"every measure, {spec}, {dtype}", lambda s=spec, d=dtype: compare(d, s, False)
    yield "every measure under bfloat16 autocast", lambda: compare(SINGLE, "adamw", True)

    def untouched() -> str:
        (a, first, _), (b, second, _) = (run(SINGLE, device, "adamw", on, False) for on in (False, True))
        same = all(torch.equal(x, y) for x, y in zip(first, second, strict=True))
        words = ["NOT equal", "equal"]
        return f"parameters {words[torch.equal(a, b)]}, random state {words[same]}"

    yield "training beside a monitor and without", untouched


def places(device: torch.device) -> Iterator[tuple[str, Callable[[], str]]]:
    wanted = objective("mlp", DOUBLE, "cpu").gradient()

    def at(model_at: torch.device | str, data_at: torch.device | str, measured: torch.device | str | None) -> str:
        model, _ = problem("mlp", DOUBLE, model_at)
        return off(
            es.Objective(model, CROSS_ENTROPY, problem("mlp", DOUBLE, data_at)[1], device=measured).gradient(), wanted
        )

    yield "model on the GPU, data on the CPU", lambda: at(device, "cpu", None)
    yield "model on the CPU, data on the GPU", lambda: at("cpu", device, None)
    yield "model on the CPU, measured on the GPU", lambda: at("cpu", "cpu", device)

    def by_default() -> str:
        torch.set_default_device(device)
        try:
            return off(
                es.top_eigenpairs(objective("mlp", DOUBLE, "cpu")).values,
                es.top_eigenpairs(objective("mlp", DOUBLE, device)).values,
            )
        finally:
            torch.set_default_device(None)

    yield "the GPU as torch's default device", by_default


def memory(device: torch.device) -> Iterator[tuple[str, Callable[[], str]]]:
    def wide() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
        model = nn.Sequential(nn.Linear(64, 8192), nn.Tanh(), nn.Linear(8192, 8192), nn.Tanh(), nn.Linear(8192, 4))
        return model.to(device), (torch.randn(20_000, 64, device=device), torch.randint(4, (20_000,), device=device))

    def cut() -> str:
        model, data = wide()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        o = es.Objective(model, CROSS_ENTROPY, data, memory_limit=3 * 2**30)
        o.hvp(o.gradient())
        return f"3.0 GiB allowed, {(torch.cuda.max_memory_allocated() - before) / 2**30:.1f} used"

    def refused() -> str:
        model, (x, y) = wide()
        o = es.Objective(model, CROSS_ENTROPY, (x[:64], y[:64]))
        depth = 2 * torch.cuda.get_device_properties(device).total_memory // (4 * o.size)
        try:
            es.spectrum(o, method="slq", probes=1, steps=depth)
        except es.errors.EdgescopeError as error:
            return f"refused: {error}"
        return "NOT refused"

    def full() -> str:
        model, (x, y) = problem("mlp", SINGLE, device)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        big = torch.randn(400_000, 12, device=device), torch.randint(4, (400_000,), device=device)
        with (
            warnings.catch_warnings(record=True),
            es.Monitor(es.Objective(model, CROSS_ENTROPY, big), optimizer, every=1, measures=["sharpness"]) as watch,
        ):
            for number in range(3):
                gc.collect()
                torch.cuda.empty_cache()
                held = torch.empty(
                    torch.cuda.mem_get_info()[0] - 2**26 if number == 1 else 0, dtype=torch.uint8, device=device
                )
                optimizer.zero_grad()
                CROSS_ENTROPY(model, (x, y)).backward()
                optimizer.step()
                watch.step()
                del held
            table = watch.table()
            return "; ".join(
                f"step {step}: {value if value is None else round(value, 4)} {note[:90]}"
                for step, value, note in table.select("step", "value", "note").iter_rows()
            )

    yield "a limit on memory", cut
    yield "more vectors than the card holds", refused
    yield "a full card in the middle of training", full


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="groups of checks, with commas between")
    parser.add_argument("--present", action="store_true", help="only say whether there is a GPU")
    given = parser.parse_args()
    only = [name for name in given.only.split(",") if name]
    if torch.backends.mps.is_available():
        sys.exit("MPS has no float64, in which sums are added: measure with device='cpu'. Nothing was checked")
    if not torch.cuda.is_available():
        sys.exit("no CUDA or MPS device that torch can use: nothing was checked")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}: float64, float32 beside float64 on the CPU")
    if given.present:
        return
    groups: list[Check] = [objectives, estimates, geometries, training, monitored, places, memory, times]
    for group in groups:
        for name, check in group(torch.device("cuda")) if not only or group.__name__ in only else ():
            began = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    found = check()
                except Exception as error:
                    found = f"FAILED, {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            print(f"{group.__name__:12}{name:76}{found}  [{time.perf_counter() - began:.1f} s]", flush=True)
            gc.collect()
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
