from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, jvp, vmap

from edgescope.errors import InputError
from edgescope.losses import LOSSES, CrossEntropy, Logistic, accuracy_counts, cross_entropy, half_mse, supervised

# torch's own forward-mode derivatives use what torch itself has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

Criterion = Callable[[Tensor, Tensor], Tensor]


def logits(shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@given(st.integers(1, 6), st.integers(1, 5), st.integers(2, 5), st.integers(0, 1000))
def test_losses_agree_with_numpy_and_scipy(batch: int, length: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for shape in ((batch,), (batch, length)):
        outputs, labels = rng.normal(size=(*shape, classes)), rng.integers(0, classes, shape)
        f, y = torch.from_numpy(outputs), torch.from_numpy(labels)
        onehot = np.eye(classes)[labels]
        squared = 0.5 * ((outputs - onehot) ** 2).sum(-1).mean()
        entropy = -(onehot * scipy.special.log_softmax(outputs, -1)).sum(-1).mean()
        smooth = 0.8 * onehot + 0.2 / classes
        smoothed = -(smooth * scipy.special.log_softmax(outputs, -1)).sum(-1).mean()
        assert float(half_mse(f, y)) == pytest.approx(squared, rel=1e-12)
        assert float(half_mse(f, torch.from_numpy(onehot))) == pytest.approx(squared, rel=1e-12)
        assert float(cross_entropy(f, y)) == pytest.approx(entropy, rel=1e-10, abs=1e-12)
        assert float(cross_entropy(f, torch.from_numpy(onehot))) == pytest.approx(entropy, rel=1e-10, abs=1e-12)
        assert float(CrossEntropy(smoothing=0.2)(f, y)) == pytest.approx(smoothed, rel=1e-10, abs=1e-12)
        hits = int((outputs.argmax(-1) == labels).sum())
        assert accuracy_counts(f, y) == accuracy_counts(f, torch.from_numpy(onehot)) == (hits, labels.size)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtypes_are_kept(dtype: torch.dtype) -> None:
    labels = torch.tensor([0, 2], dtype=torch.int32)
    for name in ("mse", "squared", "cross-entropy"):
        assert LOSSES.build(name)(logits((2, 3), dtype=dtype), labels).dtype == dtype
    assert LOSSES.build("logistic")(logits((2, 1), dtype=dtype), torch.tensor([[-1.0], [1.0]])).dtype == dtype


@pytest.mark.parametrize("seed", range(3))
def test_hessians_in_the_outputs_have_their_closed_forms(seed: int) -> None:
    outputs, labels = logits((4, 3), seed), torch.tensor([0, 2, 1, 1])
    torch.testing.assert_close(
        hessian(half_mse)(outputs, labels).reshape(12, 12), torch.eye(12, dtype=torch.float64) / 4
    )
    p = outputs.softmax(-1)
    blocks = [torch.diag(row) - torch.outer(row, row) for row in p]
    torch.testing.assert_close(
        hessian(cross_entropy)(outputs, labels).reshape(12, 12), torch.block_diag(*blocks) / 4, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("criterion", [half_mse, cross_entropy])
@pytest.mark.parametrize("soft", [False, True])
def test_every_mode_of_differentiation_agrees(criterion: Criterion, soft: bool) -> None:
    outputs, v = logits((4, 3)), logits((4, 3), 7)
    targets = logits((4, 3), 8).softmax(-1) if soft else torch.tensor([0, 2, 1, 1])

    def gradient(x: Tensor) -> Tensor:
        return grad(criterion)(x, targets)

    wanted = torch.einsum("abcd,cd->ab", hessian(criterion)(outputs, targets), v)
    torch.testing.assert_close(jvp(gradient, (outputs,), (v,))[1], wanted)
    point = outputs.clone().requires_grad_()
    (first,) = torch.autograd.grad(criterion(point, targets), point, create_graph=True)
    torch.testing.assert_close(torch.autograd.grad(first, point, v)[0], wanted)
    many = vmap(lambda u: jvp(gradient, (outputs,), (u,))[1])(torch.stack([v, 2 * v]))
    torch.testing.assert_close(many, torch.stack([wanted, 2 * wanted]))


@pytest.mark.parametrize("criterion", [half_mse, cross_entropy])
def test_losses_can_be_mapped_over_samples(criterion: Criterion) -> None:
    outputs, labels = logits((5, 3)), torch.tensor([0, 2, 1, 1, 2])
    single = vmap(lambda f, y: criterion(f[None], y[None]))(outputs, labels)
    torch.testing.assert_close(single.mean(), criterion(outputs, labels))
    gradients = vmap(grad(lambda f, y: criterion(f[None], y[None])))(outputs, labels)
    torch.testing.assert_close(gradients / 5, grad(criterion)(outputs, labels))


@pytest.mark.parametrize("function", [half_mse, cross_entropy, accuracy_counts])
@pytest.mark.parametrize(
    ("outputs", "targets"),
    [
        (torch.zeros(4, 3), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(4, 3), torch.zeros(4, 1, dtype=torch.int64)),
        (torch.zeros(4, 3), torch.zeros(4)),
        (torch.zeros(4, 3), torch.zeros(4, 1)),  # these two would broadcast
        (torch.zeros(4), torch.zeros(4)),
        (torch.zeros(2, 4, 3), torch.zeros(2, dtype=torch.int64)),
    ],
)
def test_shapes_that_do_not_match_are_refused(function: Criterion, outputs: Tensor, targets: Tensor) -> None:
    with pytest.raises(InputError, match="outputs of shape") as caught:
        function(outputs, targets)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_logistic_loss_agrees_with_scipy_and_has_its_minimum_where_it_says(smoothing: float) -> None:
    rng = np.random.default_rng(0)
    f, y = rng.normal(size=(20, 1)) * 3, rng.choice([-1.0, 1.0], (20, 1))
    loss = Logistic(smoothing=smoothing)
    wanted = -((1 - smoothing) * scipy.special.log_expit(y * f) + smoothing * scipy.special.log_expit(-y * f)).mean()
    assert float(loss(torch.from_numpy(f), torch.from_numpy(y))) == pytest.approx(wanted, rel=1e-12)
    if smoothing:
        one = torch.ones(1, 1, dtype=torch.float64)
        slope = grad(lambda x: loss(x, one))
        assert float(slope(loss.target * one)) == pytest.approx(0, abs=1e-15)
        assert float(hessian(lambda x: loss(x, one))(loss.target * one)) == pytest.approx(loss.curvature)
        assert loss.curvature == pytest.approx(0.16)
    else:
        assert loss.target == float("inf")


def test_the_squared_error_has_no_half() -> None:
    f, y = logits((5, 3)), logits((5, 3), 1)
    assert float(LOSSES.build("squared")(f, y)) == pytest.approx(float((f - y).square().sum() / 5), rel=1e-12)


def test_one_output_is_right_where_it_has_the_sign_of_its_target() -> None:
    outputs, targets = torch.tensor([[2.0], [-0.1], [0.0], [3.0]]), torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
    assert accuracy_counts(outputs, targets) == (2, 4)
    with pytest.raises(InputError, match="a single output with real targets; expected targets of -1 and 1"):
        accuracy_counts(outputs, 2 * targets)


@pytest.mark.parametrize(
    ("outputs", "targets"),
    [(torch.zeros(4, 1), torch.zeros(4, dtype=torch.int64)), (torch.zeros(4, 2), torch.zeros(4, 2))],
)
def test_the_logistic_loss_needs_one_output_and_signs(outputs: Tensor, targets: Tensor) -> None:
    with pytest.raises(InputError, match="expected one output, and float targets of -1 and 1; try cross-entropy"):
        Logistic()(outputs, targets)
    with pytest.raises(InputError, match=r"smoothing=0.5; expected a finite number of at least 0 and below 0.5"):
        Logistic(smoothing=0.5)


INPUTS, LABELS = torch.randn(4, 5, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 2, 1, 1])


@pytest.fixture
def model() -> nn.Module:
    return nn.Linear(5, 3)


@pytest.mark.parametrize("criterion", [half_mse, cross_entropy, nn.functional.cross_entropy, nn.CrossEntropyLoss()])
@pytest.mark.parametrize(
    "batch", [(INPUTS, LABELS), [INPUTS, LABELS], {"inputs": INPUTS, "targets": LABELS, "index": 3}]
)
def test_a_supervised_loss_takes_every_kind_of_batch(model: nn.Module, criterion: Criterion, batch: Any) -> None:
    loss_fn = supervised(criterion)
    wanted = criterion(model(INPUTS), LABELS)
    torch.testing.assert_close(loss_fn(model, batch), wanted)
    torch.testing.assert_close(loss_fn.criterion_of(loss_fn.outputs(model, batch), batch), wanted)
    assert torch.equal(loss_fn.targets(batch), LABELS)


def test_a_supervised_loss_can_be_transformed(model: nn.Module) -> None:
    loss_fn = supervised(half_mse)

    class Bound(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, batch: Any) -> Tensor:
            return loss_fn(self.model, batch)

    bound = Bound()
    weights = {name: p.detach() for name, p in bound.named_parameters()}

    def loss(w: dict[str, Tensor]) -> Tensor:
        return functional_call(bound, w, ((INPUTS, LABELS),))

    product = jvp(grad(loss), (weights,), (weights,))[1]["model.weight"]
    # The loss is quadratic: H of one row is the second moment of (x, 1).
    x = torch.cat([INPUTS, torch.ones(4, 1)], 1)
    both = torch.cat([weights["model.weight"], weights["model.bias"][:, None]], 1)
    torch.testing.assert_close(product, (both @ (x.T @ x) / 4)[:, :5])


@pytest.mark.parametrize(
    ("batch", "fault"),
    [
        (INPUTS, "a batch that is a Tensor"),
        ((INPUTS,), "a tuple of length 1"),
        ([INPUTS, LABELS, LABELS], "a list of length 3"),
        ({"x": INPUTS, "y": LABELS}, "keys 'x', 'y'; expected 'inputs' and 'targets'"),
        ((INPUTS, [0, 2, 1, 1]), "targets of a batch are a list"),
        ((INPUTS, LABELS[:3]), r"inputs of shape \(4, 5\) and targets of shape \(3,\)"),
        ((INPUTS[:, :4], LABELS), r"cannot take inputs of shape \(4, 4\)"),
        ((INPUTS.double(), LABELS), "type torch.float64"),
        ((INPUTS, LABELS + 1), "a target of 3 for a model with 3 outputs; expected targets from 0 to 2"),
        ((INPUTS, LABELS - 1), "a target of -1 for"),
        # torch leaves a label of -100 out of the mean without a word
        ((INPUTS, torch.tensor([0, -100, 1, 1])), "a target of -100 for"),
        ((INPUTS, LABELS[:, None]), r"targets of shape \(4, 1\)"),
    ],
)
@pytest.mark.parametrize("name", ["mse", "cross-entropy"])
def test_a_batch_that_does_not_fit_is_named(model: nn.Module, name: str, batch: Any, fault: str) -> None:
    with pytest.raises(InputError, match=fault) as caught:
        supervised(LOSSES.build(name))(model, batch)
    assert "\n" not in str(caught.value)


def test_torchs_own_criteria_are_explained_too(model: nn.Module) -> None:
    loss_fn = supervised(nn.functional.cross_entropy)
    with pytest.raises(InputError, match="a target of 4 for a model with 3 outputs"):
        loss_fn(model, (INPUTS, LABELS + 2))
    with pytest.raises(InputError, match=r"integer targets of shape \(4, 1\) \(0D or 1D target"):
        loss_fn(model, (INPUTS, LABELS[:, None]))


def test_tokens_outside_an_embedding_are_explained() -> None:
    with pytest.raises(
        InputError, match=r"cannot take inputs of shape \(2,\) and type torch.int64: index out of range"
    ):
        supervised(half_mse)(nn.Embedding(3, 4), (torch.tensor([0, 3]), torch.tensor([0, 1])))


def test_errors_of_the_model_itself_pass_unchanged() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise NotImplementedError("no forward-mode derivative")

    with pytest.raises(NotImplementedError, match="no forward-mode derivative"):
        supervised(half_mse)(Broken(), (INPUTS, LABELS))

    def criterion(outputs: Tensor, targets: Tensor) -> Tensor:
        raise RuntimeError("vmap: something else")

    with pytest.raises(RuntimeError, match="vmap: something else"):
        supervised(criterion)(nn.Linear(5, 3), (INPUTS, LABELS))


def test_outputs_and_criteria_of_another_kind_are_refused() -> None:
    with pytest.raises(InputError, match="the model returned a tuple"):
        supervised(half_mse)(nn.LSTM(5, 3), (INPUTS, LABELS))
    with pytest.raises(InputError, match="criterion of type str"):
        supervised("mse")  # type: ignore[arg-type]


def test_losses_are_known_by_name() -> None:
    assert LOSSES.build("cross-entropy:smoothing=0.1") == CrossEntropy(0.1)
    with pytest.raises(InputError, match="try 'cross-entropy'"):
        LOSSES.build("crossentropy")
    with pytest.raises(InputError, match=r"smoothing=1"):
        LOSSES.build("cross-entropy:smoothing=1")
