"""Small functions of a few parameters, one for each operation whose second derivative is checked.

``wrong_on`` are the derivative paths that torch gets wrong for it; ``refused`` is in the error where no path is right.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, linalg, special

BATCHED = ("kept-batched", "rebuilt-batched")


@dataclass(frozen=True)
class Operation:
    parameters: Callable[[], list[Tensor]]
    function: Callable[..., Tensor]
    wrong_on: tuple[str, ...] = ()
    refused: str = ""


def normal(*shapes: tuple[int, ...] | int) -> Callable[[], list[Tensor]]:
    """Parameters drawn from a normal distribution."""
    return lambda: [torch.randn(shape, dtype=torch.float64) for shape in shapes]


def positive(*shapes: tuple[int, ...] | int) -> Callable[[], list[Tensor]]:
    return lambda: [torch.randn(shape, dtype=torch.float64).abs() + 0.3 for shape in shapes]


def given(*values: object) -> Callable[[], list[Tensor]]:
    return lambda: [torch.tensor(value, dtype=torch.float64) for value in values]


@functools.cache  # drawn when a case is first evaluated, so that no random operation is traced into a program
def fixed(*shape: int) -> Tensor:
    """Numbers between 0 and 1 that are no parameters."""
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(7))


def shifted(a: Tensor) -> Tensor:
    """A matrix far from singular."""
    return a + 2 * torch.eye(a.shape[-1], dtype=a.dtype)


def lower(a: Tensor) -> Tensor:
    return torch.tril(a) + 3 * torch.eye(a.shape[-1], dtype=a.dtype)


def upper(a: Tensor) -> Tensor:
    return lower(a.mT).mT


def definite(a: Tensor) -> Tensor:
    return a @ a.mT + torch.eye(a.shape[-1], dtype=a.dtype)


def symmetric(a: Tensor) -> Tensor:
    return a + a.mT


def joined(*tensors: Tensor) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


SINGULAR = [[1.0, 2.0, 4.0], [2.0, 4.0, 8.0], [1.0, 0.0, 2.0]]
"""Singular also as factorised: its multipliers are powers of two, so that no processor rounds a pivot away from 0."""

OPERATIONS: dict[str, Operation] = {}
add = OPERATIONS.__setitem__

# Linear systems, determinants and factorisations.
add("solve", Operation(normal((3, 3), (3, 2)), lambda a, b: linalg.solve(shifted(a), b)))
add("solve-from-the-right", Operation(normal((3, 3), (2, 3)), lambda a, b: linalg.solve(shifted(a), b, left=False)))
add("solve-batch", Operation(normal((2, 2, 2), (2, 2, 1)), lambda a, b: linalg.solve(lower(a), b)))
add("solve-broadcast", Operation(normal((2, 2), (2, 2, 1)), lambda a, b: linalg.solve(lower(a), b)))
add("solve-vector", Operation(normal((3, 3), 3), lambda a, b: linalg.solve(shifted(a), b)))
add(
    "solve-triangular",
    Operation(normal((3, 3), (3, 1)), lambda a, b: linalg.solve_triangular(lower(a), b, upper=False)),
)
add("lu-solve", Operation(normal((3, 3), (3, 1)), lambda a, b: linalg.lu_solve(*linalg.lu_factor(shifted(a)), b)))
add("lu", Operation(normal((3, 3)), lambda a: joined(*linalg.lu(shifted(a))[1:])))
add("inv", Operation(normal((3, 3)), lambda a: linalg.inv(shifted(a))))
add("lstsq", Operation(normal((4, 2), (4, 1)), lambda a, b: linalg.lstsq(a, b)[0]))
add("pinv", Operation(normal((3, 2)), linalg.pinv))
add("det", Operation(normal((3, 3)), linalg.det))
add("det-batch", Operation(normal((2, 2, 2)), linalg.det))
add("det-singular", Operation(given(SINGULAR), linalg.det, refused="'linalg_det'"))
add("det-singular-diagonal", Operation(given([[1.0, 0, 0], [0, 2, 0], [0, 0, 0]]), linalg.det, refused="'linalg_det'"))
add("det-zero", Operation(given([[0.0, 0], [0, 0]]), linalg.det, refused="'linalg_det'"))
add("slogdet", Operation(normal((3, 3)), lambda a: linalg.slogdet(a)[1]))
add("logdet", Operation(normal((3, 3)), lambda a: torch.logdet(definite(a))))
add("householder-product", Operation(normal((4, 3), 3), linalg.householder_product))
add(
    "householder-product-of-reflections",
    Operation(normal((4, 2)), lambda a: linalg.householder_product(a.tril(-1), 2 / (1 + a.tril(-1).square().sum(0)))),
)
add(
    "householder-product-at-zero",
    Operation(given([[0.0], [0.0]], [1.0]), linalg.householder_product, refused="'linalg_householder_product'"),
)
add("ormqr", Operation(normal((3, 2), 2, (3, 1)), torch.ormqr))
add("cholesky", Operation(normal((3, 3)), lambda a: linalg.cholesky(definite(a))))
add("cholesky-inverse", Operation(normal((3, 3)), lambda a: torch.cholesky_inverse(lower(a)), ("forward",)))
add(
    "cholesky-inverse-upper",
    Operation(normal((3, 3)), lambda a: torch.cholesky_inverse(upper(a), upper=True), ("forward",)),
)
add(
    "cholesky-inverse-square",
    Operation(normal((2, 2)), lambda a: torch.cholesky_inverse(shifted(a)), refused="'cholesky_inverse'"),
)
add("cholesky-solve", Operation(normal((3, 3), (3, 2)), lambda a, b: torch.cholesky_solve(b, lower(a))))
add(
    "cholesky-solve-upper",
    Operation(normal((3, 3), (3, 2)), lambda a, b: torch.cholesky_solve(b, upper(a), upper=True)),
)
add(
    "cholesky-solve-broadcast",
    Operation(normal((2, 2, 2)), lambda a: torch.cholesky_solve(fixed(2, 2), lower(a)), ("forward",)),
)
add(
    "cholesky-solve-square",
    Operation(normal((2, 2), (2, 1)), lambda a, b: torch.cholesky_solve(b, shifted(a)), refused="'cholesky_solve'"),
)
add("eigh", Operation(normal((3, 3)), lambda a: joined(*(part.square() for part in linalg.eigh(symmetric(a))))))
add("eigvals", Operation(normal((3, 3)), lambda a: linalg.eigvals(a).abs()))
add("svd", Operation(normal((3, 2)), lambda a: joined(*(part.square() for part in linalg.svd(a, full_matrices=False)))))
add("svdvals", Operation(normal((3, 2)), linalg.svdvals))
add("qr", Operation(normal((3, 2)), lambda a: joined(*linalg.qr(a))))
add("qr-wide", Operation(normal((2, 3)), lambda a: joined(*linalg.qr(a))))
add("matrix-exp", Operation(normal((3, 3)), lambda a: linalg.matrix_exp(0.5 * a)))
add("matrix-power", Operation(normal((3, 3)), lambda a: linalg.matrix_power(shifted(a), -2)))
add("nuclear-norm", Operation(normal((3, 2)), lambda a: linalg.matrix_norm(a, "nuc")))
add("spectral-norm", Operation(normal((3, 2)), lambda a: linalg.matrix_norm(a, 2)))

# Products, at zeros as well, where a product of the others is not the quotient of the whole by one.
ZEROS = {
    "": normal(6),
    "-one-zero": given([1.0, 2.0, 0.0, 3.0, -1.0, 2.0]),
    "-two-zeros": given([1.0, 0.0, 3.0, 2.0, 0.0, -1.0]),
    "-zeros-in-a-row": given([0.0, 2.0, 0.0, 1.0, 3.0, 2.0]),
    "-all-zero": given([0.0] * 6),
}
for zeros, parameters in ZEROS.items():
    add("cumprod" + zeros, Operation(parameters, lambda a: torch.cumprod(a, 0)))
    add("cumprod-rows" + zeros, Operation(parameters, lambda a: torch.cumprod(a.view(2, 3), 1)))
    add("prod" + zeros, Operation(parameters, torch.prod))
    add("prod-rows" + zeros, Operation(parameters, lambda a: torch.prod(a.view(2, 3), 1)))
    several = zeros in ("-zeros-in-a-row", "-all-zero")  # in one product, which torch says that it does not support
    scattered = Operation(
        parameters,
        lambda a: torch.ones(2, dtype=a.dtype).scatter_reduce(0, torch.tensor([0, 0, 0, 1, 1, 1]), a, "prod"),
        ("forward",),
        "'scatter_reduce'" * several,
    )
    add("scatter-product" + zeros, scattered)
add(
    "scatter-mean",
    Operation(normal(4), lambda a: torch.ones(2).double().scatter_reduce(0, torch.tensor([0, 0, 1, 1]), a**2, "mean")),
)
add("logsumexp", Operation(normal(4), lambda a: torch.logsumexp(a, 0)))
add("logsumexp-ties", Operation(given([1.0, 1.0, 0.0]), lambda a: torch.logsumexp(a, 0)))
add("logcumsumexp", Operation(normal(4), lambda a: torch.logcumsumexp(a, 0)))
add("softmax", Operation(normal(4), lambda a: a.softmax(0)))
add("cumsum", Operation(normal(4), lambda a: torch.cumsum(a, 0) ** 2))

# Distances and norms.
for order in (1.0, 1.5, 2.0, 3.0, float("inf")):
    add(f"vector-norm-{order:g}", Operation(normal(4), lambda a, p=order: linalg.vector_norm(a, p)))
    add(
        f"pairwise-distance-{order:g}",
        Operation(normal((2, 2), (2, 2)), lambda a, b, p=order: F.pairwise_distance(a, b, p)),
    )
    add(f"normalize-{order:g}", Operation(normal((2, 3)), lambda a, p=order: F.normalize(a, p)))
add("vector-norm-at-zero", Operation(given([0.0, 0.0]), linalg.vector_norm, refused="'linalg_vector_norm'"))
add("squared-norm-at-zero", Operation(given([0.0, 0.0]), lambda a: torch.norm(a) ** 2, refused="'linalg_vector_norm'"))
add(
    "vector-norm-1.5-at-a-zero",
    Operation(given([1.0, 0.0]), lambda a: linalg.vector_norm(a, 1.5), refused="'linalg_vector_norm'"),
)
add("renorm", Operation(normal((2, 3)), lambda a: torch.renorm(a, 2, 0, 0.5)))
add("cosine-similarity", Operation(normal((2, 3), (2, 3)), F.cosine_similarity))
add("cdist", Operation(normal((2, 2), (2, 2)), torch.cdist, refused="'cdist'"))
add("pdist", Operation(normal((3, 2)), F.pdist, refused="'pdist'"))
add("std", Operation(normal(5), torch.std))

# Losses.
add("kl-div", Operation(normal((2, 3)), lambda a: F.kl_div(a.log_softmax(1), fixed(2, 3), reduction="none")))
add(
    "kl-div-of-the-target",
    Operation(normal((2, 3), (2, 3)), lambda a, b: F.kl_div(a, b, log_target=True, reduction="none")),
)
add("huber", Operation(normal(4, 4), lambda a, b: F.huber_loss(a, b, reduction="none", delta=0.7)))
add("smooth-l1", Operation(normal(4, 4), lambda a, b: F.smooth_l1_loss(a, b, reduction="none", beta=0.7)))
add("mse", Operation(normal(4, 4), lambda a, b: F.mse_loss(a, b)))
add("bce", Operation(normal(4, 4), lambda a, b: F.binary_cross_entropy(a.sigmoid(), b.sigmoid(), reduction="none")))
add(
    "bce-logits",
    Operation(
        normal(4), lambda a: F.binary_cross_entropy_with_logits(a, fixed(4), reduction="none", pos_weight=fixed(4))
    ),
)
add(
    "cross-entropy",
    Operation(normal((3, 4)), lambda a: F.cross_entropy(a, torch.tensor([0, 2, 3]), label_smoothing=0.1)),
)
add(
    "cross-entropy-soft",
    Operation(normal((2, 3), (2, 3)), lambda a, b: F.cross_entropy(a, b.softmax(1), reduction="none")),
)
add("poisson-nll", Operation(normal(4), lambda a: F.poisson_nll_loss(a, 3 * fixed(4), reduction="none")))
add("gaussian-nll", Operation(normal(3, 3), lambda a, v: F.gaussian_nll_loss(a, fixed(3), v.exp(), reduction="none")))
add("soft-margin", Operation(normal(4), lambda a: F.soft_margin_loss(a, fixed(4).round() * 2 - 1, reduction="none")))
add(
    "ctc",
    Operation(
        normal((4, 1, 3)),
        lambda a: F.ctc_loss(a.log_softmax(-1), torch.tensor([[1, 2]]), (4,), (2,)),
        refused="'ctc_loss'",
    ),
)
add(
    "multi-margin",
    Operation(
        normal((2, 3)), lambda a: F.multi_margin_loss(a, torch.tensor([0, 2]), p=2), refused="'multi_margin_loss'"
    ),
)

# Embeddings and images.
add("embedding", Operation(normal((4, 2)), lambda w: F.embedding(torch.tensor([0, 1, 1, 3]), w).tanh()))
for mode in ("sum", "mean", "max"):
    add(
        f"embedding-bag-{mode}",
        Operation(
            normal((4, 2)),
            lambda w, m=mode: F.embedding_bag(torch.tensor([[0, 1], [1, 3]]), w, mode=m).tanh(),
            refused="'embedding_bag'",
        ),
    )
for mode in ("bilinear", "bicubic"):
    add(
        f"grid-sample-{mode}",
        Operation(
            normal((1, 1, 3, 3), (1, 2, 2, 2)),
            lambda x, g, m=mode: F.grid_sample(x, 0.6 * g, mode=m, align_corners=False),
        ),
    )
add("affine-grid", Operation(normal((1, 2, 3)), lambda t: F.affine_grid(t, (1, 1, 2, 2), align_corners=False) ** 2))
for mode in ("nearest", "bilinear", "bicubic", "area"):
    add(
        f"interpolate-{mode}",
        Operation(normal((1, 1, 3, 3)), lambda x, m=mode: F.interpolate(x.tanh(), size=(4, 5), mode=m)),
    )
add(
    "conv2d",
    Operation(
        normal((1, 2, 3, 3), (2, 1, 2, 2), 2), lambda x, w, b: F.conv2d(x, w, b, groups=2, dilation=2, padding=1)
    ),
)
add("conv-transpose2d", Operation(normal((1, 1, 2, 2), (1, 1, 2, 2)), lambda x, w: F.conv_transpose2d(x, w, stride=2)))
add("max-pool2d", Operation(normal((1, 1, 4, 4)), lambda x: F.max_pool2d(x, 2) ** 2))
add("lp-pool2d", Operation(positive((1, 1, 4, 4)), lambda x: F.lp_pool2d(x, 3.0, 2)))

# Normalisations.
add(
    "batch-norm-train",
    Operation(normal((4, 2), 2, 2), lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True)),
)
add(
    "batch-norm-train-images",
    Operation(normal((2, 2, 2, 1), 2, 2), lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True, eps=0.25)),
)
add("batch-norm-train-plain", Operation(normal((4, 2)), lambda x: F.batch_norm(x, None, None, training=True)))
add("batch-norm-eval", Operation(normal((4, 2), 2, 2), lambda x, w, b: F.batch_norm(x, fixed(2), fixed(2) + 0.5, w, b)))
add("batch-norm-eval-plain", Operation(normal((4, 2)), lambda x: F.batch_norm(x, fixed(2), fixed(2) + 0.5) ** 2))
add("layer-norm", Operation(normal((3, 3), 3, 3), lambda x, w, b: F.layer_norm(x, (3,), w, b)))
add("layer-norm-plain", Operation(normal((3, 3)), lambda x: F.layer_norm(x, (3,))))
add("layer-norm-without-bias", Operation(normal((3, 3), 3), lambda x, w: F.layer_norm(x, (3,), w)))
add(
    "layer-norm-without-weight",
    Operation(normal((3, 3), 3), lambda x, b: F.layer_norm(x, (3,), None, b), refused="'native_layer_norm'"),
)
add(
    "layer-norm-two-dimensions",
    Operation(normal((2, 3, 2), (3, 2), (3, 2)), lambda x, w, b: F.layer_norm(x, (3, 2), w, b, 0.3)),
)
add("group-norm", Operation(normal((2, 4, 2), 4, 4), lambda x, w, b: F.group_norm(x, 2, w, b), BATCHED))
add("group-norm-plain", Operation(normal((2, 4, 2)), lambda x: F.group_norm(x, 2), BATCHED))
add("group-norm-plain-large-eps", Operation(normal((2, 4, 2)), lambda x: F.group_norm(x, 2, eps=0.25), BATCHED))
add("instance-norm", Operation(normal((2, 2, 3), 2, 2), lambda x, w, b: F.instance_norm(x, weight=w, bias=b)))
add("rms-norm", Operation(normal((2, 3), 3), lambda x, w: F.rms_norm(x, (3,), w, eps=1e-5)))
add("local-response-norm", Operation(normal((1, 4, 2)), lambda x: F.local_response_norm(x, 2)))
add(
    "weight-norm",
    Operation(normal((2, 3), (2, 1)), lambda v, g: torch._weight_norm(v, g, 0), refused="'weight_norm_interface'"),
)

# Activations, attention, recurrent cells.
for name, function in {
    "gelu": F.gelu, "gelu-tanh": lambda x: F.gelu(x, approximate="tanh"), "silu": F.silu, "mish": F.mish, "elu": F.elu,
    "softplus": F.softplus, "hardswish": F.hardswish, "logsigmoid": F.logsigmoid, "glu": F.glu, "erf": torch.erf,
    "sinc": torch.sinc, "i0": special.i0, "log-ndtr": special.log_ndtr, "xlogy": lambda x: torch.xlogy(x, x.exp()),
}.items():  # fmt: skip
    add(name, Operation(normal(6), function))
add("hardsigmoid", Operation(normal(3), F.hardsigmoid, refused="'hardsigmoid'"))
add("sinc-at-zero", Operation(given([0.0, 1.0]), torch.sinc, refused="'sinc'"))
add("lgamma", Operation(positive(4), torch.lgamma))
add("pow", Operation(positive(3, 3), torch.pow))
add("pow-at-zero", Operation(given([0.0, 1.0]), lambda a: a**3))
add("atan2", Operation(normal(3, 3), torch.atan2))
for causal in (False, True):
    add(
        f"attention{'-causal' * causal}",
        Operation(
            normal((1, 1, 2, 2), (1, 1, 2, 2), (1, 1, 2, 2)),
            lambda q, k, v, c=causal: F.scaled_dot_product_attention(q, k, v, is_causal=c),
        ),
    )
add(
    "lstm-cell",
    Operation(
        normal((4, 2), (4, 1), 4, 4),
        lambda *w: joined(*torch._VF.lstm_cell(fixed(2, 2), [fixed(2, 1), fixed(2, 1)], *w)),
    ),
)
add("gru-cell", Operation(normal((3, 2), (3, 1), 3, 3), lambda *w: torch._VF.gru_cell(fixed(2, 2), fixed(2, 1), *w)))
