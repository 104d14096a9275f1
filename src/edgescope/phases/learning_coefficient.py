"""The local learning coefficient: how fast the loss rises around a minimum, counted in parameters that matter."""

from __future__ import annotations

import math

from edgescope.arithmetic import in_plain_arithmetic
from edgescope.errors import InputError
from edgescope.linalg import Spectrum, top_eigenpairs
from edgescope.notices import Notices
from edgescope.objective import Objective
from edgescope.options import check_function, checked, instance_of, optional
from edgescope.phases.chain_options import ChainOptions
from edgescope.phases.coefficient_summary import summarize
from edgescope.phases.local_coefficient import LearningCoefficient
from edgescope.phases.sgld import ROUGH
from edgescope.phases.sgld_edge import Localized
from edgescope.phases.sgld_run import sample
from edgescope.progress import Progress, no_progress


@checked(objective=instance_of(Objective), spectrum=optional(instance_of(Spectrum)), progress=optional(check_function))
@in_plain_arithmetic
def learning_coefficient(
    objective: Objective,
    *,
    gamma: float = 1.0,
    beta: float | None = None,
    n: int | None = None,
    chains: int = 8,
    times: float = 8.0,
    burn_in: float = 2.0,
    share: float = 0.1,
    step: float | None = None,
    sharpness: float | None = None,
    spectrum: Spectrum | None = None,
    half_step: bool = False,
    batch: int | None = None,
    max_steps: int = 500_000,
    seed: int = 0,
    progress: Progress | None = None,
) -> LearningCoefficient:
    """The local learning coefficient at the model's parameters w*: n β (E L(w) - L(w*)) around a minimum.

    The mean is over w of density exp(-n β L(w) - γ |w - w*|²/2). On a quadratic it is half the rank of the Hessian as n
    grows, on singular models less: half an effective number of parameters. L has to be a mean negative log likelihood,
    up to a constant: cross-entropy is one, and ``half_mse`` is that of Gaussian noise of variance 1. Another scale of
    the loss is another temperature. With ``l2`` it is the coefficient of the loss with that term.

    It is sampled by SGLD, w - (ε/2)(n β ∇L + γ (w - w*)) + sqrt(ε) ξ, whose step has an edge of stability of its own,
    4/(n β λ_max + γ). See docs/learning_coefficient.md.

    Args:
        objective: the loss at a minimum; its model is not changed.
        gamma: γ, which holds the chains near w*: a small one lets flat directions wander and takes more steps, a large
            one lowers the estimate, by γ/(n β h + γ) of what an eigenvalue h counts.
        beta: the inverse temperature β, by default 1/ln n.
        n: the number of samples, by default that of the objective, however they are batched.
        chains: the number of chains. Small models evaluate all at once, at little more than the time of one.
        times: how long the chains are, in units of 2/(ε γ) steps, in which flat directions forget where they began.
        burn_in: how long they run before, in the same unit, while the step is found.
        share: the step over its edge, where λ_max is the largest eigenvalue of the Hessian at the places of the chains,
            which :func:`top_eigenpairs` finds. A share of 0.1 raises the estimate by at most 11% on a quadratic.
        step: ε itself, in place of ``share``.
        sharpness: the largest eigenvalue at w*, where it is known.
        spectrum: that of the Hessian at w*, for ``quadratic``, what the sampler gives on a quadratic with it.
        half_step: sample again with half the step, and extrapolate both to step 0.
        batch: gradients of mini-batches of so many samples, one for each chain and step, in place of all data.
        max_steps: refuse to take more steps than so many, burn-in included (``half_step``: 2.25 times as many).
        seed: seed of all that is drawn. The random generators of torch are left as they were.
        progress: is called with the fraction done and a line of text.

    Returns:
        The :class:`LearningCoefficient`, with standard errors and an interval over chains and their autocorrelation.
        Where the chains have not mixed or diverged, its value is NaN, ``status`` and ``reason`` say so, and a warning
        is issued, as it is for a loss that is not at a minimum. The limits by which this is judged were set after runs
        of small problems; docs/learning_coefficient.md says of which, and how the limits did on others.

    Cost: ``chains`` times (``times`` + ``burn_in``) 2/(ε γ) gradients, where 2/(ε γ) = (1 + n β λ_max/γ)/(2 share); and
    some 10 products for each of some 20 eigenvalues. Raises :class:`NotKnownError` where that is more than
    ``max_steps`` for each chain or no step is small enough, and :class:`InputError` for a loss that is not finite.

    Source: Lau et al. 2023 (arXiv 2308.12108); the edge, the bounds and the refusals are this library's.
    """
    options = ChainOptions(
        gamma, beta, n, chains, times, burn_in, share, step, sharpness, half_step, batch, max_steps, seed
    )
    found = local_coefficient(objective, options, spectrum, progress or no_progress)
    if found.reason:
        word = "" if found.status == "mixed" else "no value: "
        Notices().give("measure", f"learning coefficient: {word}{found.reason}", faq="learning-coefficients")
    return found


def local_coefficient(
    objective: Objective,
    options: ChainOptions,
    spectrum: Spectrum | None = None,
    progress: Progress = no_progress,
) -> LearningCoefficient:
    """:func:`learning_coefficient` without its warning."""
    n = options.n or objective.samples
    if n < 2 and options.beta is None:
        raise InputError(f"n={n}", expected="at least 2 samples, since β is 1/ln n", hint="beta=1")
    target = Localized(n * (options.beta or 1 / math.log(n)), options.gamma)
    before, w = objective.spent, objective.parameters()
    gradient, loss = objective.gradient(w), float(objective.loss(w))
    if not math.isfinite(loss) or not bool(gradient.isfinite().all()):
        raise InputError("the loss or its gradient is not finite (NaN or infinity)")
    largest = options.sharpness
    if largest is None:
        largest = float(top_eigenpairs(objective.operator(w), 1, tol=ROUGH).values[0])
    found = sample(objective, target, w, loss, largest, options, progress)
    objective.release()
    return summarize(objective, found, target, options, n, loss, gradient, spectrum, objective.spent - before)
