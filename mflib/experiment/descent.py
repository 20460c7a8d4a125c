"""Stochastic gradient descent on an ensemble of networks as one batched computation.

This module and what it imports are all that decides a trained network's numbers, so its code
version is what recorded tables are keyed by.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from mflib.experiment.draws import derive_seed
from mflib.experiment.networks import FullyConnected
from mflib.experiment.nonlinearities import nonlinearity

_EAGER_STEPS = 3  # cuBLAS and the allocator settle before a CUDA graph is captured
_EVALUATION_BYTES = {"cpu": 4 * 2**20, "cuda": 512 * 2**20}


class Stopped(Exception):
    """Training was asked to stop before it was done."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What an ensemble scores: mean NLL and share correct on both parts, each (E,).

    ``diverged`` marks members with a parameter or an output that is not finite. Their accuracy
    is that of the argmax of what is left (NaN counts as largest).
    """

    train_loss: np.ndarray
    train_accuracy: np.ndarray
    test_loss: np.ndarray
    test_accuracy: np.ndarray
    diverged: np.ndarray


@contextlib.contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Allow TF32 matrix products on CUDA ("tf32") or forbid them ("ieee"), then restore."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def sample_order(n: int, seed: int, epoch: int, steps: int, batch_size: int) -> Tensor:
    """Return the minibatches of one epoch, (steps, batch_size): a permutation's first samples.

    It depends on the seed and the epoch alone, so all members of a seed see the same batches,
    on every device.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
    return torch.randperm(n, generator=generator)[: steps * batch_size].view(steps, batch_size)


class Descent:
    """SGD with momentum on the mean negative log-likelihood of an ensemble.

    v ← μ v + η ∂L/∂θ,  θ ← θ − v  with one η per member; members with equal ``seeds`` share
    their minibatches. ``network`` is trained in place.

    Backpropagation is written out: the loss's gradient is scaled by the member's η at the top,
    so each weight matrix is updated by the product that forms its gradient, and no gradient is
    stored. A step writes into tensors made once, reads its batch through a counter on the
    device, and never waits for the device; on CUDA it is captured as a graph and replayed.
    A member that becomes NaN touches no other: no operation mixes members.
    """

    def __init__(
        self,
        network: FullyConnected,
        x: Tensor,
        y: Tensor,
        *,
        learning_rates: Sequence[float],
        seeds: Sequence[int],
        batch_size: int,
        momentum: float = 0.0,
        steps_per_epoch: int | None = None,
    ) -> None:
        longest = len(x) // batch_size
        self.steps_per_epoch = longest if steps_per_epoch is None else steps_per_epoch
        if not 1 <= self.steps_per_epoch <= longest:
            raise ValueError(
                f"batch_size={batch_size} and steps_per_epoch={steps_per_epoch} need "
                f"{batch_size * (steps_per_epoch or 1)} training samples, but there are {len(x)}"
            )
        if not len(learning_rates) == len(seeds) == network.n_members:
            raise ValueError(
                f"{len(learning_rates)} learning rates and {len(seeds)} seeds for "
                f"{network.n_members} networks: give one of each per network"
            )
        self.network, self.x, self.momentum = network, x, momentum
        self.phi = nonlinearity(network.activation)
        self.steps_done = 0
        # One row of batches serves all members where their seeds agree.
        self.order_seeds = list(seeds) if len(set(seeds)) > 1 else [seeds[0]]
        e, rows, b = network.n_members, len(self.order_seeds), batch_size
        width, n_classes = network.weights[-1].shape[1:]

        def empty(*shape: int) -> Tensor:
            return torch.empty(*shape, dtype=x.dtype, device=x.device)

        rates = torch.as_tensor(learning_rates, dtype=torch.float64, device=x.device)
        self.scale = (rates / b).to(x.dtype).view(e, 1, 1)
        self.targets = torch.nn.functional.one_hot(y, n_classes).to(x.dtype)
        self.order = torch.empty(self.steps_per_epoch, rows * b, dtype=torch.int64, device=x.device)
        self.cursor = torch.zeros(1, dtype=torch.int64, device=x.device)
        self.chosen = torch.empty(1, rows * b, dtype=torch.int64, device=x.device)
        self.batch_x, self.batch_t = empty(rows * b, x.shape[1]), empty(rows * b, n_classes)
        self.inputs = self.batch_x.view(rows, b, -1).expand(e, b, -1)
        self.answers = self.batch_t.view(rows, b, -1).expand(e, b, -1)
        self.z = [empty(e, b, width) for _ in range(network.depth)]
        self.y = self.z if self.phi.from_output else [empty(e, b, width) for _ in self.z]
        self.out, self.top = empty(e, b, n_classes), empty(e, b, n_classes)
        self.back = (empty(e, b, width), empty(e, b, width))
        self.ones = torch.ones(1, 1, b, dtype=x.dtype, device=x.device).expand(e, 1, b)
        self.velocity = (
            [torch.zeros_like(p) for p in (*network.weights, *network.biases)] if momentum else []
        )
        self.graph: torch.cuda.CUDAGraph | None = None

    def advance(self, steps: int, *, stop: Callable[[], bool] = lambda: False) -> None:
        """Take so many steps; raise Stopped between two of them once ``stop()`` is true."""
        with torch.no_grad():
            for _ in range(steps):
                if stop():
                    raise Stopped
                epoch, step = divmod(self.steps_done, self.steps_per_epoch)
                if step == 0:
                    self._begin(epoch)
                if self.graph is not None:
                    self.graph.replay()
                elif self.x.is_cuda and self.steps_done >= _EAGER_STEPS:
                    self.graph = torch.cuda.CUDAGraph()
                    with torch.cuda.graph(self.graph):
                        self.step()
                    self.graph.replay()  # capturing records the step without taking it
                else:
                    self.step()
                self.steps_done += 1

    def _begin(self, epoch: int) -> None:
        batch = self.order.shape[1] // len(self.order_seeds)
        rows = [
            sample_order(len(self.x), seed, epoch, self.steps_per_epoch, batch)
            for seed in self.order_seeds
        ]
        self.order.copy_(torch.cat(rows, dim=1))
        self.cursor.zero_()

    def step(self) -> None:
        """Take one step: the batch at the counter, forward, backward with updates, count."""
        torch.index_select(self.order, 0, self.cursor, out=self.chosen)
        torch.index_select(self.x, 0, self.chosen[0], out=self.batch_x)
        torch.index_select(self.targets, 0, self.chosen[0], out=self.batch_t)
        self._forward()
        self._backward()
        self.cursor.add_(1)

    def _forward(self) -> None:
        weights, biases = self.network.weights, self.network.biases
        below = self.inputs
        for weight, bias, z, y in zip(weights, biases, self.z, self.y, strict=False):
            torch.baddbmm(bias, below, weight, out=z)
            self.phi.apply(z, y)
            below = y
        torch.baddbmm(biases[-1], below, weights[-1], out=self.out)

    def _backward(self) -> None:
        """Propagate δ = η ∂L/∂z down, updating every layer after δ has passed through it."""
        weights = self.network.weights
        torch.softmax(self.out, dim=-1, out=self.top)
        delta = self.top.sub_(self.answers).mul_(self.scale)
        for layer in range(len(weights) - 1, -1, -1):
            if layer == 0:
                self._update(0, self.inputs, delta)
                return
            passed = self.back[layer % 2]
            torch.bmm(delta, weights[layer].transpose(1, 2), out=passed)
            self._update(layer, self.y[layer - 1], delta)
            saved = self.y if self.phi.from_output else self.z
            self.phi.chain(passed, saved[layer - 1], passed)
            delta = passed

    def _update(self, layer: int, below: Tensor, delta: Tensor) -> None:
        weight, bias = self.network.weights[layer], self.network.biases[layer]
        if not self.momentum:
            weight.baddbmm_(below.transpose(1, 2), delta, alpha=-1)
            bias.baddbmm_(self.ones, delta, alpha=-1)
            return
        v_weight, v_bias = self.velocity[layer], self.velocity[len(self.network.weights) + layer]
        weight.sub_(v_weight.baddbmm_(below.transpose(1, 2), delta, beta=self.momentum))
        bias.sub_(v_bias.baddbmm_(self.ones, delta, beta=self.momentum))


def evaluate(
    network: FullyConnected, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]
) -> Evaluation:
    """Score every member on (x, y) of the training and of the test part, in one transfer."""
    finite = torch.ones(network.n_members, dtype=torch.bool, device=network.weights[0].device)
    for parameter in (*network.weights, *network.biases):
        finite &= parameter.isfinite().all(-1).all(-1)
    scores = []
    with torch.no_grad():
        for x, y in (train, test):
            loss, accuracy = _score(network, x, y)
            finite &= loss.isfinite()
            scores += [loss, accuracy]
    table = torch.stack([*scores, (~finite).double()]).cpu().numpy()
    return Evaluation(table[0], table[1], table[2], table[3], table[4] > 0)


def _score(network: FullyConnected, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean NLL and the share correct, each (E,) float64."""
    phi = nonlinearity(network.activation)
    e, width = network.n_members, network.weights[-1].shape[1]
    chunk = max(1, _EVALUATION_BYTES[x.device.type] // (x.element_size() * e * width))
    chunk = min(chunk, len(x))
    buffers = [torch.empty(e, chunk, width, dtype=x.dtype, device=x.device) for _ in range(2)]
    loss = torch.zeros(e, dtype=torch.float64, device=x.device)
    right = torch.zeros(e, dtype=torch.float64, device=x.device)
    for start in range(0, len(x), chunk):
        labels = y[start : start + chunk]
        n = len(labels)
        below = x[start : start + n].expand(e, n, -1)
        for layer, (weight, bias) in enumerate(
            zip(network.weights[:-1], network.biases[:-1], strict=True)
        ):
            # A partial last chunk gets tensors of its own: out= wants contiguous ones.
            z = buffers[layer % 2] if n == chunk else torch.empty_like(buffers[0][:, :n])
            torch.baddbmm(bias, below, weight, out=z)
            phi.apply(z, z)
            below = z
        logits = torch.baddbmm(network.biases[-1], below, network.weights[-1])
        chosen = torch.log_softmax(logits, -1).gather(2, labels.view(1, n, 1).expand(e, n, 1))
        loss -= chosen.sum((1, 2), dtype=torch.float64)
        right += (logits.argmax(-1) == labels).sum(1)
    return loss / len(x), right / len(x)


def train_members(
    part: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    *,
    n_classes: int,
    activation: str,
    sigma_w2: Sequence[float],
    learning_rates: Sequence[float],
    seeds: Sequence[int],
    sigma_b2: float,
    width: int,
    depth: int,
    batch_size: int,
    momentum: float,
    steps_per_epoch: int | None,
    initialisation: str,
    fan: str,
    evaluation_samples: int | None,
    at: Sequence[int],
    stop: Callable[[], bool] = lambda: False,
) -> list[Evaluation]:
    """Draw, train and score one ensemble of one depth; member k has the k-th of each sequence.

    A member's weights come from (its seed, depth, its σ_w²), so it is the same network in any
    ensemble, and networks at different points are independent. ``at`` lists the numbers of
    steps after which to score, ascending. ``evaluation_samples`` scores on the first so many
    samples of each part. Raises Stopped once ``stop()`` is true.
    """
    x, y = part
    network = FullyConnected.draw(
        activation,
        sigma_w2=sigma_w2,
        sigma_b2=sigma_b2,
        width=width,
        depth=depth,
        n_in=x.shape[1],
        n_out=n_classes,
        seeds=[
            derive_seed(seed, "network", depth, float(w2))
            for seed, w2 in zip(seeds, sigma_w2, strict=True)
        ],
        initialisation=initialisation,
        fan=fan,
        dtype=x.dtype,
        device=x.device,
    )
    n = evaluation_samples
    scored = [(features[:n], labels[:n]) for features, labels in (part, test)]
    descent = Descent(
        network,
        x,
        y,
        learning_rates=learning_rates,
        seeds=seeds,
        batch_size=batch_size,
        momentum=momentum,
        steps_per_epoch=steps_per_epoch,
    )
    evaluations = []
    for step in at:
        descent.advance(step - descent.steps_done, stop=stop)
        evaluations.append(evaluate(network, scored[0], scored[1]))
    return evaluations
