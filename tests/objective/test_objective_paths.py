"""Every derivative path on every problem, against a dense float64 Hessian."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from objective_problems import Case, Net, build, known, labelled, mlp, names, reference, relative
from torch import Tensor, nn

from edgescope.errors import InputError, NotDifferentiableError
from edgescope.losses import half_mse, supervised
from edgescope.objective import Objective
from edgescope.objective.compiled import Compiled

REVERSE = ["kept", "kept-batched", "rebuilt", "rebuilt-batched"]


def block(objective: Objective, width: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(objective.size, width, dtype=torch.float64, generator=generator).to(objective.dtype)


@pytest.mark.parametrize("name", names())
def test_the_reference_agrees_with_differences_of_gradients(name: str) -> None:
    case, dense = known(name)
    step = 1e-5 if case.smooth else 1e-7
    torch.manual_seed(5)
    direction = torch.randn_like(dense.flat)

    def gradient(flat: torch.Tensor) -> torch.Tensor:
        leaf = flat.clone().requires_grad_()
        return torch.autograd.grad(dense.at(leaf), leaf)[0]

    quotient = (gradient(dense.flat + step * direction) - gradient(dense.flat - step * direction)) / (2 * step)
    assert relative(dense.hessian @ direction, quotient) < 1e-5


@pytest.mark.parametrize("path", REVERSE)
@pytest.mark.parametrize("name", names())
def test_double_backward(name: str, path: str) -> None:
    case, dense = known(name)
    if name == "groupnorm" and path.endswith("batched"):  # torch cannot map its backward over vectors
        objective = Objective(case.model, case.loss_fn, case.batches, path=path, threads=1)
        with pytest.raises(NotDifferentiableError, match=f"path='{path}'"):
            objective.hvp(block(objective, 2))
        return
    objective = Objective(
        case.model, case.loss_fn, case.batches, mode=case.mode, dtype=torch.float64, path=path, threads=1
    )
    V = block(objective, 5)
    assert relative(objective.hvp(V), dense.hessian @ V) < 1e-9
    assert relative(objective.hvp(V[:, :1]), dense.hessian @ V[:, :1]) < 1e-9
    assert relative(objective.hvp(V[:, 2]), dense.hessian @ V[:, 2]) < 1e-9
    assert relative(objective.gradient(), dense.gradient) < 1e-9
    assert relative(objective.loss(), dense.loss) < 1e-12


@pytest.mark.parametrize("name", names(but=["lstm"]))
def test_forward_over_reverse(name: str) -> None:
    case, dense = known(name)
    objective = Objective(
        case.model, case.loss_fn, case.batches, mode=case.mode, dtype=torch.float64, path="forward", threads=1
    )
    V = block(objective, 5)
    assert relative(objective.hvp(V), dense.hessian @ V) < 1e-9
    assert relative(objective.hvp(V[:, 0]), dense.hessian @ V[:, 0]) < 1e-9


def test_forward_over_reverse_is_refused_where_torch_has_none() -> None:
    case, _ = known("lstm")
    objective = Objective(case.model, case.loss_fn, case.batches, path="forward", threads=1)
    with pytest.raises(NotDifferentiableError, match=r"path='forward'.*try path='auto'"):
        objective.hvp(block(objective, 2))


@pytest.mark.parametrize("name", names())
def test_the_chosen_path_in_single_precision(name: str) -> None:
    case, dense = known(name)
    objective = Objective(case.model, case.loss_fn, case.batches, mode=case.mode)
    assert objective.dtype == torch.float32
    V = block(objective, 3)
    assert relative(objective.hvp(V), dense.hessian @ V.double()) < 2e-5
    assert relative(objective.gradient(), dense.gradient) < 2e-5
    assert relative(objective.loss(), dense.loss) < 1e-6


# Whatever torch.compile does with it, the traced program must be the Hessian product.
@pytest.mark.parametrize("name", ["cross-entropy-8+2", "batchnorm-train", "keyword-batch", "linear-in-some"])
def test_the_traced_program(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case, dense = known(name)
    monkeypatch.setattr(torch, "compile", lambda program, **_: program)
    objective = Objective(
        case.model, case.loss_fn, case.batches, mode=case.mode, dtype=torch.float64, path="compiled", threads=1
    )
    V = block(objective, 2)
    assert relative(objective.hvp(V), dense.hessian @ V) < 1e-9
    assert relative(objective.hvp(V[:, 0]), dense.hessian @ V[:, 0]) < 1e-9
    w = dense.flat + 0.1
    assert (
        relative(objective.hvp(V, w), reference(case, flat=w).hessian @ V) < 1e-9
    )  # nothing of the first place is left


@pytest.mark.slow
def test_the_compiled_program() -> None:
    """The one test that runs inductor, which takes its time; without a compiler the path is refused."""
    model, loss_fn, data = nn.Linear(3, 1), supervised(half_mse), (torch.randn(4, 3), torch.randn(4, 1))
    if not Compiled.possible():
        with pytest.raises(InputError, match="needs a C\\+\\+ compiler"):
            Objective(model, loss_fn, data, path="compiled")
        return
    objective = Objective(model, loss_fn, data, path="compiled", threads=1)
    V = block(objective, 2)
    assert relative(objective.hvp(V), reference(Case(model, loss_fn, [data])).hessian @ V.double()) < 2e-5


def test_a_branch_on_a_value_is_not_frozen_into_a_program() -> None:
    model = Net(lambda m, x: m.layer(x).tanh() if m.layer.weight.sum() > 0 else m.layer(x), layer=nn.Linear(3, 1))
    objective = Objective(model, lambda m, x: m(x).square().mean(), torch.randn(4, 3), path="compiled", threads=1)
    with pytest.raises(NotDifferentiableError, match="path='compiled'"):
        objective.hvp(torch.ones(4))


def test_batches_are_weighted_by_their_samples() -> None:
    """Ten samples as 8 + 2, as one batch, shuffled from a loader, and cut: the same loss, gradient and product."""
    torch.manual_seed(3)
    model, (x, y) = mlp(), labelled(10, 4)
    shuffled = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=4, shuffle=True)
    whole = Objective(model, supervised(half_mse), (x, y), dtype=torch.float64)
    V = block(whole, 3)
    for data, chunk in (([(x[:8], y[:8]), (x[8:], y[8:])], None), (shuffled, None), ((x, y), 3), (shuffled, 3)):
        parts = Objective(model, supervised(half_mse), data, dtype=torch.float64, chunk=chunk)
        assert parts.samples == 10
        assert relative(parts.loss(), whole.loss()) < 1e-12
        assert relative(parts.gradient(), whole.gradient()) < 1e-12
        assert relative(parts.hvp(V), whole.hvp(V)) < 1e-12
        assert relative(parts.gnvp(V), whole.gnvp(V)) < 1e-12
        assert parts.accuracy() == whole.accuracy()


def test_batches_can_be_counted_in_tokens() -> None:
    case = build("keyword-batch")

    def loss_fn(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        logits = model(**batch).logits[:, :-1]
        return F.cross_entropy(logits.flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=5)

    count = lambda batch: float((batch["labels"][:, 1:] != 5).sum())  # noqa: E731
    objective = Objective(case.model, loss_fn, case.batches, count=count, dtype=torch.float64)
    one_by_one = [Objective(case.model, loss_fn, [batch], dtype=torch.float64).loss() for batch in case.batches]
    weights = [count(batch) for batch in case.batches]
    wanted = sum(w * one for w, one in zip(weights, one_by_one, strict=True)) / sum(weights)
    assert relative(objective.loss(), wanted) < 1e-12


@pytest.mark.parametrize("path", ["kept", "rebuilt", "forward"])
def test_the_l2_term(path: str) -> None:
    case = build("mlp-half-mse", seed=2)
    dense = reference(case, l2=0.3)
    objective = Objective(case.model, case.loss_fn, case.batches, l2=0.3, dtype=torch.float64, path=path)
    V = block(objective, 2)
    assert relative(objective.loss(), dense.loss) < 1e-12
    assert relative(objective.gradient(), dense.gradient) < 1e-12
    assert relative(objective.hvp(V), dense.hessian @ V) < 1e-10
    assert relative(objective.gnvp(V) - Objective(case.model, case.loss_fn, case.batches).gnvp(V), 0.3 * V) < 1e-5


@pytest.mark.parametrize("own", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("asked", [None, torch.float64])
def test_precision_of_model_and_measurement(own: torch.dtype, asked: torch.dtype | None) -> None:
    case = build("batchnorm-eval", seed=4)
    case.model.to(own)
    objective = Objective(case.model, case.loss_fn, case.batches, dtype=asked, mode=case.mode)
    wanted = asked or (torch.float64 if own == torch.float64 else torch.float32)
    dense = reference(case)
    V = block(objective, 2)
    found = objective.hvp(V)
    assert found.dtype == objective.dtype == wanted
    assert objective.loss().dtype == torch.float64
    assert all(p.dtype == own for p in case.model.parameters())
    assert relative(found, dense.hessian @ V.double()) < (1e-9 if wanted == torch.float64 else 5e-5)


def test_given_and_live_parameters() -> None:
    case = build("cross-entropy-8+2", seed=1)
    objective = Objective(case.model, case.loss_fn, case.batches, dtype=torch.float64, path="kept")
    V, here = block(objective, 2), objective.parameters()
    elsewhere = here + 0.3
    for w in (here, elsewhere, here):
        dense = reference(case, flat=w)
        assert relative(objective.hvp(V, w), dense.hessian @ V) < 1e-9
        assert relative(objective.gradient(w), dense.gradient) < 1e-9
        assert relative(objective.loss(w), dense.loss) < 1e-12
        assert relative(objective.operator(w) @ V, dense.hessian @ V) < 1e-9
    assert torch.equal(objective.hvp(V), objective.hvp(V, here))
    w = here.clone()
    operator = objective.operator(w)
    w += 1.0  # an operator keeps its place
    assert torch.equal(operator @ V, objective.hvp(V, here))


def test_a_change_of_the_parameters_is_seen_however_it_is_made() -> None:
    case = build("mlp-half-mse", seed=6)
    objective = Objective(case.model, case.loss_fn, case.batches, dtype=torch.float64, path="kept")
    V = block(objective, 2)
    state = {name: value + 0.1 for name, value in case.model.state_dict().items()}

    def through_data() -> None:
        case.model[0].weight.data.mul_(1.5)

    def by_the_optimizer() -> None:
        with torch.no_grad():
            case.model[2].bias.add_(0.2)

    def by_the_objective() -> None:
        objective.assign(objective.parameters() - 0.05)

    def by_new_tensors() -> None:
        case.model.load_state_dict(state, assign=True)

    for change in (through_data, by_the_optimizer, by_the_objective, by_new_tensors):
        before = objective.hvp(V)
        change()
        dense = reference(case)
        assert relative(before, dense.hessian @ V) > 1e-4
        assert relative(objective.hvp(V), dense.hessian @ V) < 1e-9
        assert relative(objective.gradient(), dense.gradient) < 1e-9
        assert relative(objective.loss(), dense.loss) < 1e-12


def test_a_change_of_buffers_and_frozen_parameters_is_seen() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3))
    model[0].requires_grad_(False)
    case = Case(model, supervised(half_mse), [labelled(6, 4)])
    objective = Objective(case.model, case.loss_fn, case.batches, dtype=torch.float64, path="kept", mode="eval")
    V = block(objective, 2)
    for change in (lambda: model(torch.randn(8, 4)), lambda: model[0].weight.data.mul_(2.0)):
        before = objective.hvp(V)
        change()
        dense = reference(case)
        assert relative(before, dense.hessian @ V) > 1e-4
        assert relative(objective.hvp(V), dense.hessian @ V) < 1e-9


@settings(max_examples=15)
@given(
    samples=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    width=st.integers(1, 20),
    chunk=st.one_of(st.none(), st.integers(1, 4)),
    path=st.sampled_from(REVERSE),
    seed=st.integers(0, 99),
)
def test_products_are_symmetric_and_linear(
    samples: list[int], width: int, chunk: int | None, path: str, seed: int
) -> None:
    torch.manual_seed(seed)
    batches = [labelled(n, 4) for n in samples]
    objective = Objective(
        mlp(), supervised(half_mse), batches, dtype=torch.float64, path=path, threads=1, chunk=chunk, check=False
    )
    U, V = block(objective, width, seed), block(objective, width, seed + 1)
    products = objective.hvp(V)
    assert torch.allclose(U.T @ products, objective.hvp(U).T @ V, rtol=1e-8, atol=1e-10)
    assert torch.allclose(objective.hvp(2 * U - V), 2 * objective.hvp(U) - products, rtol=1e-8, atol=1e-10)
    assert torch.allclose(objective.hvp(V[:, 0]), products[:, 0], rtol=1e-8, atol=1e-12)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_padded_sequences_have_one_loss() -> None:
    """Without gradients torch takes a fast path through its encoder that puts zeros where the padding is."""
    torch.manual_seed(0)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 4, dropout=0.0, batch_first=True), 1)
    padding = torch.tensor([[False, False, True], [False, False, False]])
    model = Net(lambda m, batch: m.encoder(batch["x"], src_key_padding_mask=batch["padding"]), encoder=encoder)
    data = {"x": torch.randn(2, 3, 4), "padding": padding}
    objective = Objective(model, lambda m, batch: (m(batch) - 1.0).square().mean(), data, dtype=torch.float64)
    first = objective.loss()
    objective.release()
    objective.gradient()
    assert relative(first, objective.loss()) < 1e-12


def test_layout_and_sizes() -> None:
    case = build("frozen-and-unused")
    objective = Objective(case.model, case.loss_fn, case.batches)
    assert [slot.name for slot in objective.layout] == [
        "mid.weight",
        "mid.bias",
        "out.weight",
        "unused.weight",
        "unused.bias",
    ]
    assert objective.size == sum(slot.shape.numel() for slot in objective.layout) == objective.parameters().numel()
    flat = torch.cat([p.detach().flatten() for p in objective.tensors])
    for slot in objective.layout:
        assert torch.equal(flat[slot.slice].view(slot.shape), case.model.get_parameter(slot.name))
    assert objective.shapes == [tuple(slot.shape) for slot in objective.layout]


def test_the_loss_depends_on_no_parameter_beyond_the_used_ones() -> None:
    case, dense = known("frozen-and-unused")
    objective = Objective(case.model, case.loss_fn, case.batches, dtype=torch.float64)
    unused = next(slot for slot in objective.layout if slot.name == "unused.weight").slice
    assert not dense.hessian[unused].any()
    assert not objective.hvp(block(objective, 3))[unused].any()
