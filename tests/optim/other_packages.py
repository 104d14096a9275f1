"""Optimizers of other packages, written from their papers with the options and state that the packages have."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

Optimizer = torch.optim.Optimizer


def of_package(kind: Any, module: str, name: str | None = None) -> Any:
    return type(name or kind.__name__, (kind,), {"__module__": module})


class ScheduleFree(Optimizer):
    """Defazio et al. 2024: x is the average, z the point that descends, y = (1 - beta) z + beta x trains."""

    beta2: float | None = None

    def __init__(self, params: Any, lr: float, weight_decay: float = 0.0, warmup_steps: int = 0, **own: Any) -> None:
        defaults = {"lr": lr, "weight_decay": weight_decay, "warmup_steps": warmup_steps, "r": 0.0, "k": 0}
        defaults |= {"train_mode": True, "weight_sum": 0.0, "lr_max": -1.0, "scheduled_lr": 0.0, "foreach": False}
        super().__init__(params, defaults | {"weight_lr_power": 2.0} | self.more() | own)

    def more(self) -> dict[str, Any]:
        return {"momentum": 0.9}

    def beta(self, group: Any) -> float:
        return float(group["momentum"])

    def direction(self, group: Any, y: Tensor, state: Any) -> Tensor:
        return y.grad + group["weight_decay"] * y

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            k, beta = group["k"], self.beta(group)
            lr = group["lr"] * min(1.0, (k + 1) / group["warmup_steps"] if group["warmup_steps"] else 1.0)
            group["lr_max"] = max(lr, group["lr_max"])
            weight = (k + 1) ** group["r"] * group["lr_max"] ** group["weight_lr_power"]
            group["weight_sum"] += weight
            c = weight / group["weight_sum"]
            for y in group["params"]:
                state = self.state[y]
                if not state:
                    state["z"] = y.clone()
                z = state["z"]
                x = (y - (1 - beta) * z) / beta
                new = z - lr * self.direction(group, y, state)
                y.copy_((1 - beta) * new + beta * ((1 - c) * x + c * new))
                z.copy_(new)
            group["k"] = k + 1


class ScheduleFreeAdamW(ScheduleFree):
    def more(self) -> dict[str, Any]:
        return {"betas": (0.9, 0.999), "eps": 1e-8}

    def beta(self, group: Any) -> float:
        return float(group["betas"][0])

    def direction(self, group: Any, y: Tensor, state: Any) -> Tensor:
        beta2 = group["betas"][1]
        v = state.setdefault("exp_avg_sq", torch.zeros_like(y))
        v.copy_(beta2 * v + (1 - beta2) * y.grad**2)
        return y.grad / ((v / (1 - beta2 ** (group["k"] + 1))).sqrt() + group["eps"]) + group["weight_decay"] * y


class SOAP(Optimizer):
    """Vyas et al. 2024, for vectors and matrices; the basis is recomputed exactly every few steps."""

    def __init__(self, params: Any, lr: float, **own: Any) -> None:
        defaults = {"betas": (0.9, 0.95), "shampoo_beta": -1, "eps": 1e-8, "weight_decay": 0.01, "merge_dims": False}
        defaults |= {"precondition_frequency": 1000, "max_precond_dim": 100, "precondition_1d": False}
        super().__init__(params, {"lr": lr} | defaults | {"normalize_grads": False, "correct_bias": True} | own)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            (b1, b2), lr = group["betas"], group["lr"]
            for p in group["params"]:
                g, state = p.grad, self.state[p]
                if not state:
                    state |= {"step": 0, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
                    state["Q"] = self.basis(group, g)
                    continue
                left, right = (q if len(q) else None for q in (*state["Q"], [])[:2])
                state["step"] += 1
                turned = g if left is None else left.T @ g
                turned = turned if right is None else turned @ right
                m, v, t = state["exp_avg"], state["exp_avg_sq"], state["step"]
                m.copy_(b1 * m + (1 - b1) * turned)
                v.copy_(b2 * v + (1 - b2) * turned**2)
                u = m / (v.sqrt() + group["eps"])
                u = u if left is None else left @ u
                u = u if right is None else u @ right.T
                rate = lr * ((1 - b2**t) ** 0.5 / (1 - b1**t) if group["correct_bias"] else 1.0)
                p -= rate * u
                p -= lr * group["weight_decay"] * p

    def basis(self, group: Any, g: Tensor) -> list[Any]:
        if g.ndim == 1:
            return [torch.linalg.eigh(torch.outer(g, g))[1] if group["precondition_1d"] else []]
        sides = (g @ g.T, g.T @ g)
        return [torch.linalg.eigh(m)[1] if len(m) <= group["max_precond_dim"] else [] for m in sides]


class Shampoo(Optimizer):
    """Gupta et al. 2018, for vectors and matrices, in the way of torch-optimizer or of pytorch-optimizer."""

    def __init__(self, params: Any, lr: float, momentum: float = 0.0, weight_decay: float = 0.0, **own: Any) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay} | own)
        self.preconditioning_compute_steps = 1

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            successive = "epsilon" in group
            names = ("precond_", "inv_precond_") if successive else ("pre_cond_", "inv_pre_cond_")
            for p in group["params"]:
                g, state = p.grad + group["weight_decay"] * p, self.state[p]
                if not successive:
                    group["step"] = group.get("step", 0) + (p is group["params"][0])
                for d in range(p.ndim):
                    start = group["epsilon" if successive else "matrix_eps"] * torch.eye(p.shape[d]).to(p)
                    used = g if successive else p.grad + group["weight_decay"] * p
                    rows = used.movedim(d, 0).reshape(p.shape[d], -1)
                    L = state.get(f"{names[0]}{d}", start) + rows @ rows.T
                    values, vectors = torch.linalg.eigh(L)
                    inverse = vectors @ torch.diag(values ** (-(1 if successive else 0.5) / p.ndim)) @ vectors.T
                    state[f"{names[0]}{d}"], state[f"{names[1]}{d}"] = L, inverse
                    g = (inverse @ g.movedim(d, 0).reshape(p.shape[d], -1)).view(g.movedim(d, 0).shape).movedim(0, d)
                if successive:
                    state["step"] = state.get("step", 0) + 1
                p -= group["lr"] * g


class SophiaG(Optimizer):
    """Liu et al. 2023: the estimate of the Hessian is made between steps, here from the gradients that are there."""

    def __init__(self, params: Any, lr: float, rho: float = 0.1, weight_decay: float = 0.1, **own: Any) -> None:
        defaults = {"lr": lr, "rho": rho, "weight_decay": weight_decay, "betas": (0.9, 0.99)}
        super().__init__(params, defaults | {"maximize": False, "capturable": False} | own)

    @torch.no_grad()
    def update_hessian(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state |= {"step": torch.tensor(0.0), "exp_avg": torch.zeros_like(p), "hessian": torch.zeros_like(p)}
                state["hessian"].lerp_(p.grad**2, 1 - group["betas"][1])

    @torch.no_grad()
    def step(self, closure: Any = None, bs: float = 5.0) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                state["step"] += 1
                p *= 1 - group["lr"] * group["weight_decay"]
                state["exp_avg"].lerp_(p.grad, 1 - group["betas"][0])
                clipped = (state["exp_avg"].abs() / (group["rho"] * bs * state["hessian"] + 1e-15)).clamp(max=1)
                p -= group["lr"] * state["exp_avg"].sign() * clipped


class Lion(Optimizer):
    """Chen et al. 2023."""

    def __init__(self, params: Any, lr: float, betas: Any = (0.9, 0.99), weight_decay: float = 0.0, **own: Any) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay} | own)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                m, (b1, b2) = self.state[p].setdefault("exp_avg", torch.zeros_like(p)), group["betas"]
                p.copy_(p - group["lr"] * ((b1 * m + (1 - b1) * p.grad).sign() + group["weight_decay"] * p))
                m.lerp_(p.grad, 1 - b2)


class Signum(Optimizer):
    """Bernstein et al. 2018."""

    def __init__(self, params: Any, lr: float, momentum: float = 0.9, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
                m.lerp_(p.grad, 1 - group["momentum"])
                p.copy_(p - group["lr"] * (m.sign() + group["weight_decay"] * p))


class Adam8bit(Optimizer):
    """Dettmers et al. 2022: Adam with decoupled decay whose moments are kept as places in a table, in blocks of 256."""

    block = 256

    def __init__(self, params: Any, lr: float, betas: Any = (0.9, 0.999), weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": 1e-8, "weight_decay": weight_decay, "alpha": 0.0})

    def kept(self, state: Any, number: int, like: Tensor) -> Tensor:
        if f"state{number}" not in state:
            return torch.zeros_like(like)
        values = state[f"qmap{number}"][state[f"state{number}"].long()].flatten()
        blocks = values.split(self.block)
        return torch.cat([b * s for b, s in zip(blocks, state[f"absmax{number}"], strict=True)]).view(like.shape)

    def keep(self, state: Any, number: int, value: Tensor) -> None:
        table = torch.linspace(-1 if number == 1 else 0, 1, 256, dtype=value.dtype)
        blocks = value.flatten().split(self.block)
        scales = torch.stack([b.abs().max() for b in blocks])
        codes = [torch.cdist((b / s)[:, None], table[:, None]).argmin(1) for b, s in zip(blocks, scales, strict=True)]
        state[f"qmap{number}"], state[f"absmax{number}"] = table, scales
        state[f"state{number}"] = torch.cat(codes).to(torch.uint8).view(value.shape)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            (b1, b2), lr = group["betas"], group["lr"]
            for p in group["params"]:
                state = self.state[p]
                t = state["step"] = state.get("step", 0) + 1
                m = b1 * self.kept(state, 1, p) + (1 - b1) * p.grad
                v = b2 * self.kept(state, 2, p) + (1 - b2) * p.grad**2
                p *= 1 - lr * group["weight_decay"]
                p -= lr * m / (1 - b1**t) / ((v / (1 - b2**t)).sqrt() + group["eps"])
                self.keep(state, 1, m)
                self.keep(state, 2, v)


class LowBit:
    """A quantized tensor that knows how to become a plain one."""

    def __init__(self, value: Tensor) -> None:
        self.scale = value.abs().max() / 127
        self.codes = (value / self.scale).round().to(torch.int8)

    def dequantize(self) -> Tensor:
        return self.codes.double() * self.scale


class AdamLowBit(Adam8bit):
    """The same with tensors that dequantize themselves, and decay as ``is_adamw`` says."""

    def __init__(self, params: Any, lr: float, is_adamw: bool = False, weight_decay: float = 0.0) -> None:
        Optimizer.__init__(
            self,
            params,
            {"lr": lr, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": weight_decay, "amsgrad": False},
        )
        self.is_adamw = is_adamw

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            (b1, b2), lr, decay = group["betas"], group["lr"], group["weight_decay"]
            for p in group["params"]:
                state = self.state[p]
                old = [state[n].dequantize() if n in state else torch.zeros_like(p) for n in ("exp_avg", "exp_avg_sq")]
                state["step"] = state.get("step", torch.tensor(0.0)) + 1
                t = float(state["step"])
                g = p.grad if self.is_adamw else p.grad + decay * p
                m, v = b1 * old[0] + (1 - b1) * g, b2 * old[1] + (1 - b2) * g**2
                shrunk = p * (1 - lr * decay) if self.is_adamw else p
                p.copy_(shrunk - lr * m / (1 - b1**t) / ((v / (1 - b2**t)).sqrt() + group["eps"]))
                state["exp_avg"], state["exp_avg_sq"] = LowBit(m), LowBit(v)
