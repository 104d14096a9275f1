"""Flattest ReLU networks in closed form: the least trace of the Hessian, and memorizing or generalizing minimisers.

Wen, Li, Ma (2023, NeurIPS, arXiv 2307.11007). Everywhere here the loss is L = mean_i (f(x_i) - y_i)^2, **without the
factor 1/2**, and the sharpness is the trace of its Hessian, which at interpolation is 2/n sum_i ||grad f(x_i)||^2
(their trace lemma, :func:`trace_at_interpolation`). With the factor 1/2 every trace halves; for the logistic loss with
labels smoothed by p, targets are +-ln((1-p)/p) and every trace is multiplied by p (1 - p) / 2, since there the second
derivative of the loss in f is p (1 - p) where it is 2 here (the paper prints 1/(p (1 - p))).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from edgescope.arithmetic import in_plain_arithmetic
from edgescope.errors import InputError, NotKnownError
from edgescope.models.shallow import EPSILON, Architecture, ShallowNetwork
from edgescope.models.simplified_norm import SimplifiedBatchNorm, SimplifiedLayerNorm
from edgescope.short_errors import short_errors
from edgescope.theory.interpolation import Array, interpolable
from edgescope.theory.separation import separating_affine, separating_linear

_CORNERS = np.array([(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)])
_TILT = 2.0**-23  # much smaller than the accuracy wanted, and still representable in float32
_LARGE = 1e6  # factor of the first layer where the infimum is at infinity; its share of the trace is then 1e-12

_NUMBERS = 2**18
"""The largest number of gradient entries held at a time."""


@short_errors
def minimal_trace(
    architecture: Architecture,
    x: Tensor | np.ndarray,
    y: Tensor | np.ndarray,
    *,
    depth: int = 2,
    epsilon: float = EPSILON,
) -> float:
    """The least trace of the Hessian of mean (f - y)^2 over interpolating networks of any width, or a lower bound.

    ``x`` (n, d) are distinct inputs, ``y`` (n,) or (n, 1) their targets; r_i = ||x_i||, or sqrt(||x_i||^2 + 1) where
    the first layer has a bias; ``depth`` counts the layers, ``epsilon`` is that of the layer normalisation.

    - "bias": 4/n sum r_i |y_i|. At a sample ||grad f||^2 = ||w 1[z > 0]||^2 r^2 + ||relu(z)||^2 >= 2 r |y|, by the
      inequality of means and Cauchy-Schwarz. With ``depth`` D: 2/n sum D |y_i|^(2 (D-1)/D) r_i^(2/D). Attained by
      :func:`memorizing` wherever that exists.
    - "no-bias": the same with r_i = ||x_i||. Attained by :func:`memorizing` where that exists (as for n <= d linearly
      independent inputs). Where it does not, it is a lower bound. For xor on {-1, 1}^2 x S with S = -S (such as the
      whole hypercube) the infimum is sqrt(2) times larger, 4 sqrt(2 d): see :func:`generalizing`.
    - "layernorm": 2/n sum min(1, 2 r_i |y_i| / epsilon), attained by :func:`memorizing` wherever that exists.
    - "batchnorm": an infimum, not attained, since ||W_1|| tends to infinity. With h_j = relu(z_j)/rms_j, of mean square
      1, the gradient in (gamma, w) alone gives Tr H >= 2 sum_j (gamma_j^2 + w_j^2) >= 4 sum_j |gamma_j w_j|, and the
      rest of it vanishes as ||W_1|| grows; so what is sought is the least sum_j |gamma_j w_j|.
      For xor, y = c x_1 x_2: 4 |c| sum over the corners k of (x_1, x_2) of sqrt(p_k), with p_k the share of the samples
      at corner k; 8 |c| for balanced corners. That is the limit of :func:`generalizing` networks, and the infimum on
      product sets {-1, 1}^2 x S: |c| = |mean(x_1 x_2 f)| <= sum_j |gamma_j w_j| max_h |mean(x_1 x_2 h)|, and this
      maximum is 1/2, for a neuron that fires at one corner. (The paper's lemma gives 4: it drops the factor 2 of the
      trace lemma.) On a draw that is no product set it is not proved that nothing lies below.
      For affinely independent inputs (n <= d + 1): 4 (rms(max(y, 0)) + rms(max(-y, 0))), the limit of two neurons, one
      for each sign; less is impossible, since neurons with gamma_j w_j > 0 must add up to at least max(y, 0).

    Raises :class:`InputError` for an unknown architecture, repeated inputs, targets that no such network can
    interpolate, and shapes or values that cannot be used; :class:`NotKnownError` where no closed form is known.
    Cost: none in gradients.
    """
    inputs, targets = _checked(architecture, x, y, depth, epsilon)
    if architecture == "batchnorm":
        return _with_batch_normalisation(inputs, targets)
    lengths, sizes = _lengths(architecture, inputs), np.abs(targets)
    if architecture == "layernorm":
        squares = np.minimum(1.0, 2 * lengths * sizes / epsilon)
    else:
        squares = depth * sizes ** (2 - 2 / depth) * lengths ** (2 / depth)
    return 2 * float(squares.mean())


@short_errors
def memorizing(
    architecture: Architecture,
    x: Tensor | np.ndarray,
    y: Tensor | np.ndarray,
    *,
    depth: int = 2,
    epsilon: float = EPSILON,
) -> ShallowNetwork:
    """A flattest network that memorizes: exactly one neuron is active at each training sample, and none at two.

    On the hypercube f = 0 at every other corner. In float64, of width n (less where targets are 0), interpolating
    ``x``, ``y`` with the trace of :func:`minimal_trace`; no pre-activation of a training sample is near 0. With r_i,
    ``depth`` D and v_i, t_i such that v_i.x_i + t_i = 1 and v_i.x_j + t_i <= -1 for the others, the first layer is a_i
    (v_i, t_i), later ones have w_i on the diagonal (and -w_i off it, for a sign that is not 0), the head sign(y_i)
    w_i, where all terms of the inequality of means are equal: w_i^(2 D) = y_i^2 / r_i^2, a_i w_i^(D-1) = |y_i|.
    "layernorm": a_i = 2 epsilon and a head of y_i; or sqrt(epsilon r_i |y_i|) and y_i epsilon / a_i where |y_i| <
    epsilon / (2 r_i).

    Raises :class:`InputError` as :func:`minimal_trace` does, and where there is no such network: an input in the convex
    hull of the others ("bias", "layernorm"); one that no half-space through the origin separates ("no-bias"); always
    for "batchnorm", where the flattest networks generalize. Cost: at most one linear program with n constraints for
    each sample.
    """
    inputs, targets = _checked(architecture, x, y, depth, epsilon)
    if architecture == "batchnorm":
        raise InputError(
            "no flattest network with batch normalisation memorizes: those of least trace generalize",
            hint="generalizing",
        )
    used = np.flatnonzero(targets)
    if len(used) == 0:
        raise InputError("targets that are all 0", expected="at least one target that is not 0")
    rows, biases = np.empty((len(used), inputs.shape[1])), np.zeros(len(used))
    for k, i in enumerate(used.tolist()):
        if architecture == "no-bias":
            row = separating_linear(inputs, i)
            found = None if row is None else (row, 0.0)
        else:
            found = separating_affine(inputs, i)
        if found is None:
            where = (
                "no half-space with the origin on its border contains it and no other input"
                if architecture == "no-bias"
                else "it lies in the convex hull of the others"
            )
            raise InputError(f"no network '{architecture}' memorizes input {i}: {where}")
        rows[k], biases[k] = found
    return _one_hot(architecture, targets[used], rows, biases, _lengths(architecture, inputs)[used], depth, epsilon)


@short_errors
def generalizing(
    architecture: Architecture,
    x: Tensor | np.ndarray,
    y: Tensor | np.ndarray,
    *,
    depth: int = 2,
    epsilon: float = EPSILON,
) -> ShallowNetwork:
    """A flattest network of four neurons that is correct on the whole hypercube, for xor data y = c x_1 x_2.

    In float64; with s running over the signs (+-1, +-1) of the four neurons:

    - "bias": rows a (s_1, s_2, 0, ...), biases -a, head s_1 s_2 w with a, w as in :func:`memorizing`: one neuron
      fires at each input. For c = 1 a = r = (d + 1)^(1/4) and w = 1/r: ||grad f||^2 = r^2 + (d + 1)/r^2 is least there.
      (The paper prints (d^2 + 1)^(1/4), with which the trace is 62.1 instead of 22.3 for d = 30.)
    - "layernorm": the same rows with a and head of :func:`memorizing`.
    - "batchnorm": rows S (s_1, s_2, 0, ...), biases -S, S = 1e6, gamma = |head| = sqrt(|c| sqrt(p_s)): a trace above
      4 |c| sum_s sqrt(p_s) by a share of about d / S^2, which is as near as float64 tells. Normalised over ``x``.
      (For n <= d + 1 affinely independent inputs :func:`minimal_trace` is lower: there flatter networks do not
      generalize.)
    - "no-bias": rows a (s_1 (1 + e), s_2 (1 - e), 0, ...), head w s_1 s_2. Two neurons fire at every input, so that
      ||grad f||^2 = 4 a^2 (1 + e^2) + 2 d w^2; with 2 a w (1 - e) = |c| it is least at 2 sqrt(2 d) |c| for e -> 0 (here
      e = 2^-23). The trace 4 sqrt(2 d) |c| is sqrt(2) times the bound of :func:`minimal_trace`, and the infimum over
      all networks without bias that are differentiable on a set {-1, 1}^2 x S, S = -S in the hypercube. There every
      neuron fires at exactly one of x and -x, so that, with |a|^2 = mean((a.x)^2), Tr H = sum_j (d w_j^2 + |a_j|^2)
      >= 2 sqrt(d) sum_j |w_j| |a_j|; and |c| = |mean(x_1 x_2 f)| <= sum_j |w_j| |a_j| / (2 sqrt(2)), since
      mean(x_1 x_2 |a.x|) <= min(|a_1|, |a_2|) <= |a| / sqrt(2). The tilt e keeps pre-activations off the kink at 0,
      where autograd would count one neuron instead of two.

    Raises :class:`InputError` as :func:`minimal_trace` does, for data that are not xor on the hypercube, and for a
    ``depth`` for which no such network is known. Cost: none in gradients.
    """
    inputs, targets = _checked(architecture, x, y, depth, epsilon)
    scale = _xor_scale(inputs, targets)
    if scale is None or scale == 0 or not bool((np.abs(inputs) == 1).all()):
        raise InputError(
            "no generalizing network is known for these data",
            expected="xor data: inputs in {-1, 1}^d, y = c x_1 x_2 with c not 0",
        )
    rows = np.zeros((4, inputs.shape[1]))
    rows[:, :2] = _CORNERS
    wanted = scale * _CORNERS.prod(1)
    if architecture in ("bias", "layernorm"):
        length = np.full(4, _lengths(architecture, inputs)[0])
        return _one_hot(architecture, wanted, rows, -np.ones(4), length, depth, epsilon)
    if architecture == "batchnorm":
        shares = _corner_shares(inputs)
        if min(shares) == 0:
            raise InputError(
                "batch normalisation over xor data without one of the corners of x_1 and x_2", expected="all four"
            )
        factor = np.sqrt(abs(scale) * np.sqrt(shares))
        return _network(
            architecture, [_LARGE * rows], -_LARGE * np.ones(4), np.sign(wanted) * factor, epsilon, inputs, factor
        )
    if depth != 2:
        raise InputError(f"no generalizing network without bias is known with {depth} layers", expected="depth=2")
    rows[:, :2] *= (1 + _TILT, 1 - _TILT)
    size = inputs.shape[1]
    a = (abs(scale) ** 2 * size / (8 * (1 - _TILT) ** 2 * (1 + _TILT**2))) ** 0.25
    return _network(architecture, [a * rows], None, wanted / (2 * a * (1 - _TILT)), epsilon)


@short_errors
@in_plain_arithmetic
def trace_at_interpolation(model: nn.Module, x: Float[Tensor, "n ..."]) -> float:
    """2/n sum_i ||grad f(x_i)||^2, f the single output of ``model``: at interpolation the trace of the Hessian.

    It equals that of mean (f - y)^2 exactly where f = y (trace lemma); elsewhere it is the trace of the Gauss-Newton
    matrix. The model is evaluated in its present mode. Raises :class:`InputError` for several outputs. Cost: n
    gradients of f.
    """
    outputs = model(x)
    if outputs.numel() != len(x):
        raise InputError(f"outputs of shape {tuple(outputs.shape)} for {len(x)} inputs", expected="one output a sample")
    parameters = [p for p in model.parameters() if p.requires_grad]
    each = max(1, _NUMBERS // sum(p.numel() for p in parameters))
    total = 0.0
    for rows in torch.eye(len(x), dtype=outputs.dtype, device=outputs.device).split(each):
        pieces = torch.autograd.grad(
            outputs.flatten(), parameters, rows, retain_graph=True, allow_unused=True, is_grads_batched=True
        )
        total += sum(float(piece.square().sum()) for piece in pieces if piece is not None)
    return 2 * total / len(x)


def _with_batch_normalisation(inputs: Array, targets: Array) -> float:
    if np.linalg.matrix_rank(np.column_stack([inputs, np.ones(len(inputs))])) == len(inputs):
        return 4 * sum(math.sqrt(np.square(np.maximum(sign * targets, 0)).mean()) for sign in (1, -1))
    scale, shares = _xor_scale(inputs, targets), _corner_shares(inputs)
    if scale is None or min(shares) == 0:
        raise NotKnownError(
            "the least trace with batch normalisation is not known for these data",
            expected="affinely independent inputs, or xor: x_1 and x_2 in {-1, 1}, all four corners, y = c x_1 x_2",
        )
    return 4 * abs(scale) * float(np.sqrt(shares).sum())


def _one_hot(
    architecture: Architecture,
    targets: Array,
    rows: Array,
    biases: Array,
    lengths: Array,
    depth: int,
    epsilon: float,
) -> ShallowNetwork:
    """The network in which neuron i has pre-activation a_i at its sample, or corner, and less than 0 elsewhere."""
    sizes = np.abs(targets)
    if architecture == "layernorm":
        long = 2 * lengths * sizes >= epsilon
        a = np.where(long, 2 * epsilon, np.sqrt(epsilon * lengths * sizes))
        head = np.where(long, targets, targets * epsilon / a)
        hidden = []
    else:
        w = (sizes / lengths) ** (1 / depth)
        a = sizes / w ** (depth - 1)
        head = np.sign(targets) * w
        hidden = [(2 * np.eye(len(w)) - 1) * w] * (depth - 2)
    bias = None if architecture == "no-bias" else a * biases
    return _network(architecture, [a[:, None] * rows, *hidden], bias, head, epsilon)


def _network(
    architecture: Architecture,
    layers: list[Array],
    bias: Array | None,
    head: Array,
    epsilon: float,
    inputs: Array | None = None,
    gamma: Array | None = None,
) -> ShallowNetwork:
    norm: nn.Module | None = None
    if gamma is not None:
        norm = SimplifiedBatchNorm(len(gamma)).double()
        norm.weight = nn.Parameter(torch.from_numpy(gamma))
    elif architecture == "layernorm":
        norm = SimplifiedLayerNorm(epsilon)
    linear = [_linear(weight, bias if i == 0 else None) for i, weight in enumerate(layers)]
    network = ShallowNetwork(linear, nn.ReLU(), norm, _linear(head[None], None))
    return network if inputs is None else network.normalize_over(torch.from_numpy(inputs))


def _linear(weight: Array, bias: Array | None) -> nn.Linear:
    outputs, inputs = weight.shape
    layer = nn.Linear(inputs, outputs, bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(torch.from_numpy(weight.copy()))
    if bias is not None:
        layer.bias = nn.Parameter(torch.from_numpy(bias.copy()))
    return layer


def _lengths(architecture: Architecture, inputs: Array) -> Array:
    return np.sqrt(np.square(inputs).sum(1) + (architecture != "no-bias"))


def _xor_scale(inputs: Array, targets: Array) -> float | None:
    """c where y = c x_1 x_2 with x_1, x_2 in {-1, 1}; None otherwise."""
    if inputs.shape[1] < 2 or not bool((np.abs(inputs[:, :2]) == 1).all()):
        return None
    scales = targets * inputs[:, 0] * inputs[:, 1]
    return float(scales[0]) if bool(np.allclose(scales, scales[0], rtol=1e-12, atol=0)) else None


def _corner_shares(inputs: Array) -> Array:
    """The share of the samples at each corner of (x_1, x_2), in the order of ``_CORNERS``."""
    return (inputs[:, None, :2] == _CORNERS).all(-1).mean(0)


def _checked(
    architecture: str, x: Tensor | np.ndarray, y: Tensor | np.ndarray, depth: int, epsilon: float
) -> tuple[Array, Array]:
    inputs, targets = interpolable(architecture, x, y)
    if depth < 2 or (depth > 2 and architecture in ("batchnorm", "layernorm")):
        raise InputError(
            f"the architecture '{architecture}' with {depth} layers",
            expected="2, or more for 'bias' and 'no-bias'",
        )
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise InputError(f"layer normalisation with epsilon={epsilon:g}", expected="a positive number")
    return inputs, targets
