"""Stochastic gradient descent on an ensemble of networks as one batched computation.

This module and what it imports are all that decides a trained network's numbers, so its code
version is what recorded tables are keyed by.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mflib.experiment.draws import derive_seed
from mflib.experiment.layers import Workspace
from mflib.experiment.networks import ARCHITECTURES, Network
from mflib.experiment.nonlinearities import nonlinearity

_EAGER_STEPS = 3  # cuBLAS and the allocator settle before a CUDA graph is captured
_LINE = 32  # numbers of any dtype that fill two vectors of any processor, the step of its loops
_EVALUATION_BYTES = {"cpu": 4 * 2**20, "cuda": 512 * 2**20}


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

    v ← μ v + η (∂L/∂θ + λ θ),  θ ← θ − v  with one η per member and one ``weight_decay`` λ (for
    biases, too, as in torch.optim.SGD); members with equal ``seeds`` share their minibatches.
    ``network`` is trained in place, its weights first brought into the order in memory that the
    way down wants.

    Backpropagation is written out: the loss's gradient is scaled by the member's η at the top,
    so each weight matrix is updated by the product that forms its gradient, and no gradient is
    stored. A step writes into tensors made once, reads its batch through a counter on the
    device, and never waits for the device; on CUDA it is captured as a graph and replayed.
    A member that becomes NaN touches no other: no operation mixes members. ``train_biases=False``
    leaves the biases as they were drawn: at 0, these are networks without biases.

    The way down needs y^l of every layer. Where all of them would take more than ``memory_limit``
    bytes (``default_memory_limit`` unless given), only that of every ``segment``-th layer is
    kept, about √depth of them, and each segment is computed again before δ goes down through it:
    the memory of 2 √depth layers for the time of one more way up, with the same bits.
    """

    def __init__(
        self,
        network: Network,
        x: Tensor,
        y: Tensor,
        *,
        learning_rates: Sequence[float],
        seeds: Sequence[int],
        batch_size: int,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        steps_per_epoch: int | None = None,
        train_biases: bool = True,
        memory_limit: int | None = None,
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
        network.weights[:] = [
            layer.lay_out(weight)
            for layer, weight in zip(network.layers, network.weights, strict=True)
        ]
        self.network, self.x, self.momentum = network, x, momentum
        self.train_biases = train_biases
        self.phi = nonlinearity(network.activation)
        self.steps_done = self.begun_at = 0
        # One row of batches serves all members where their seeds agree.
        self.order_seeds = list(seeds) if len(set(seeds)) > 1 else [seeds[0]]
        e, rows, b = network.n_members, len(self.order_seeds), batch_size
        n_classes = network.layers[-1].n_out

        def empty(*shape: int) -> Tensor:
            return torch.empty(*shape, dtype=x.dtype, device=x.device)

        rates = torch.as_tensor(learning_rates, dtype=torch.float64, device=x.device)
        self.scale = (rates / b).to(x.dtype).view(e, 1, 1)
        self.decay = (rates * weight_decay).to(x.dtype).view(e, 1, 1) if weight_decay else None
        self.targets = torch.nn.functional.one_hot(y, n_classes).to(x.dtype)
        self.order = torch.empty(self.steps_per_epoch, rows * b, dtype=torch.int64, device=x.device)
        self.cursor = torch.zeros(1, dtype=torch.int64, device=x.device)
        self.chosen = torch.empty(1, rows * b, dtype=torch.int64, device=x.device)
        self.batch_x, self.batch_t = empty(rows * b, x.shape[1]), empty(rows * b, n_classes)
        self.columns = empty(rows, x.shape[1], b)
        self.inputs = self.columns.expand(e, -1, -1)
        self.answers = self.batch_t.view(rows, b, -1).mT.expand(e, -1, -1)
        self.segment = _segment(
            network,
            x.element_size() * e * b,
            default_memory_limit(x.device) if memory_limit is None else memory_limit,
        )
        slots = {
            name: empty(e, name[-1], b)
            for name in dict.fromkeys(itertools.chain(*_slots(network, self.segment)))
        }
        self.y, self.z = (
            [slots[name] for name in names] for names in _slots(network, self.segment)
        )
        self.activation_bytes = sum(t.numel() * t.element_size() for t in slots.values())
        self.out, self.top = empty(e, n_classes, b), empty(e, n_classes, b)
        self.work = Workspace(x)
        most = max(layer.n_out // layer.channels_out for layer in network.layers) * b
        self.ones = torch.ones(1, 1, most, dtype=x.dtype, device=x.device).expand(e, 1, most)
        parameters = (*network.weights, *network.biases)
        self.velocity: list[Tensor | None] = [
            torch.zeros_like(p) if momentum else None for p in parameters
        ]
        # A kernel that subtracts one layer's velocity takes longer to start than to run on a GPU.
        self.together = bool(momentum) and x.is_cuda
        self.graph: torch.cuda.CUDAGraph | None = None

    def state(self) -> Tensor:
        """Return all numbers that steps change, in one row in the host's memory."""
        return torch.cat([tensor.flatten() for tensor in self._moving()]).cpu()

    def resume(self, state: Tensor, steps_done: int) -> None:
        """Go on from the ``state()`` after so many steps, to the bit as if they were taken here.

        Raises ValueError for a state of another size.
        """
        moving = self._moving()
        sizes = [tensor.numel() for tensor in moving]
        if state.shape != (sum(sizes),):
            raise ValueError(f"a state of {state.numel()} numbers for {sum(sizes)} of this descent")
        for tensor, numbers in zip(moving, state.split(sizes), strict=True):
            tensor.copy_(numbers.view(tensor.shape))
        self.steps_done = self.begun_at = steps_done
        epoch, step = divmod(steps_done, self.steps_per_epoch)
        if step:
            self._begin(epoch)
            self.cursor.fill_(step)

    def _moving(self) -> list[Tensor]:
        parameters = [*self.network.weights, *self.network.biases]
        return parameters + [velocity for velocity in self.velocity if velocity is not None]

    def advance(self, steps: int, *, before_step: Callable[[], None] = lambda: None) -> None:
        """Take so many steps; what ``before_step()`` raises ends them between two."""
        with torch.no_grad():
            for _ in range(steps):
                before_step()
                epoch, step = divmod(self.steps_done, self.steps_per_epoch)
                if step == 0:
                    self._begin(epoch)
                if self.graph is not None:
                    self.graph.replay()
                elif self.x.is_cuda and self.steps_done - self.begun_at >= _EAGER_STEPS:
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
        rows = self.columns.shape[0]
        self.columns.copy_(self.batch_x.view(rows, -1, self.batch_x.shape[1]).mT)
        self._forward(0, self.network.depth)
        self._up(self.network.depth, self.out)
        self._backward()
        if self.together:
            self._move()
        self.cursor.add_(1)

    def _below(self, layer: int) -> Tensor:
        return self.y[layer - 1] if layer else self.inputs

    def _up(self, layer: int, out: Tensor) -> None:
        weight, bias = self.network.weights[layer], self.network.biases[layer]
        self.network.layers[layer].up(weight, bias, self._below(layer), out, self.work)

    def _forward(self, start: int, stop: int) -> None:
        for layer in range(start, stop):
            self._up(layer, self.z[layer])
            self.phi.apply(self.z[layer], self.y[layer])

    def _backward(self) -> None:
        """Propagate δ = η ∂L/∂z down, updating every layer after δ has passed through it.

        A segment is computed again from the kept y below it when δ reaches its top; none of its
        weights has moved by then, so the numbers are those of the way up.
        """
        saved = self.y if self.phi.from_output else self.z
        torch.softmax(self.out, dim=1, out=self.top)
        delta = self.top.sub_(self.answers).mul_(self.scale)
        for layer in range(self.network.depth, 0, -1):
            e, n_in, b = self.y[layer - 1].shape
            passed = self.work(f"delta {layer % 2}", e, n_in, b)
            self._down(layer, delta, passed)
            if layer < self.network.depth and layer % self.segment == 0:
                # The top y of a segment is the kept one; only its z may be missing.
                self._forward(layer - self.segment, layer - self.phi.from_output)
            self.phi.chain(passed, saved[layer - 1], passed)
            delta = passed
        self._down(0, delta, None)

    def _down(self, layer: int, delta: Tensor, passed: Tensor | None) -> None:
        network, velocity = self.network, self.velocity
        network.layers[layer].down(
            network.weights[layer],
            velocity[layer],
            self._below(layer),
            delta,
            passed,
            self._descend,
            self.work,
        )
        if not self.train_biases:
            return
        bias, speed = network.biases[layer], velocity[len(network.layers) + layer]
        by_channel = delta.view(delta.shape[0], bias.shape[2], -1)
        # A single row, not a column: batched products with a column take members one by one.
        self._descend(bias, speed, self.ones[:, :, : by_channel.shape[2]], by_channel.mT)

    def _descend(self, parameter: Tensor, velocity: Tensor | None, a: Tensor, b: Tensor) -> None:
        if velocity is None:
            if self.decay is not None:
                parameter.addcmul_(parameter, self.decay, value=-1)
            parameter.baddbmm_(a, b, alpha=-1)
            return
        velocity.baddbmm_(a, b, beta=self.momentum)
        if self.decay is not None:
            velocity.addcmul_(parameter, self.decay)
        if not self.together:
            parameter.sub_(velocity)

    def _move(self) -> None:
        """Subtract all velocities, many in a kernel; nothing has read the parameters meanwhile."""
        moved = len(self.network.layers) * (1 + self.train_biases)
        parameters = [*self.network.weights, *self.network.biases]
        velocities = [velocity for velocity in self.velocity if velocity is not None]
        torch._foreach_sub_(parameters[:moved], velocities[:moved])


def default_memory_limit(device: torch.device) -> int:
    """Return the bytes that stored activations may take: half of what a GPU has free, or 1 GiB."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 2
    return 2**30


def _slots(network: Network, segment: int) -> tuple[list[tuple], list[tuple]]:
    """Name the tensors that hold y^l and z^l; layers with one name share a tensor in turn.

    Kept to the end is the last y of every segment but the last. Any other lives until the next
    segment writes to the same place of it. Where φ′ follows from y, z is written where y is.
    """
    sizes = [layer.n_out for layer in network.layers[:-1]]
    kept = range(segment - 1, network.depth - 1, segment)
    y = [
        ("y", layer if layer in kept else None, layer % segment, n) for layer, n in enumerate(sizes)
    ]
    if nonlinearity(network.activation).from_output:
        return y, y
    return y, [("z", None, layer % segment, n) for layer, n in enumerate(sizes)]


def _segment(network: Network, sample_bytes: int, limit: int) -> int:
    """Return how many layers make a segment: all, or about √depth where that takes too much."""
    for length in (max(network.depth, 1), max(math.isqrt(network.depth), 1)):
        names = set(itertools.chain(*_slots(network, length)))
        if sample_bytes * sum(name[-1] for name in names) <= limit:
            break
    return length


def evaluate(
    network: Network,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    *,
    group: int | None = None,
) -> Evaluation:
    """Score every member on (x, y) of the training and of the test part, in one transfer.

    Samples are scored in chunks as large as an ensemble of ``group`` networks allows, its own
    number unless given: the bits of a sum depend on its chunks, so a part of an ensemble has the
    scores that the whole would have had if it names the whole's number.
    """
    finite = torch.ones(network.n_members, dtype=torch.bool, device=network.weights[0].device)
    for parameter in (*network.weights, *network.biases):
        finite &= parameter.isfinite().flatten(1).all(-1)
    scores = []
    with torch.no_grad():
        for x, y in (train, test):
            loss, accuracy = _score(network, x, y, group or network.n_members)
            finite &= loss.isfinite()
            scores += [loss, accuracy]
    table = torch.stack([*scores, (~finite).double()]).cpu().numpy()
    return Evaluation(table[0], table[1], table[2], table[3], table[4] > 0)


def _score(network: Network, x: Tensor, y: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """Return the mean NLL and the share correct, each (E,) float64.

    Chunks are filled up to multiples of ``_LINE`` samples: then every member's numbers lie in
    memory alike, none at the end of a loop, and have the bits that they have in any ensemble.
    """
    e = network.n_members
    largest = max(layer.n_out + layer.scratch() for layer in network.layers)
    fitting = _EVALUATION_BYTES[x.device.type] // (x.element_size() * group * largest)
    chunk = max(1, fitting // _LINE) * _LINE
    work = Workspace(x)
    loss = torch.zeros(e, dtype=torch.float64, device=x.device)
    right = torch.zeros(e, dtype=torch.float64, device=x.device)
    for start in range(0, len(x), chunk):
        labels = y[start : start + chunk]
        n = len(labels)
        inputs = torch.nn.functional.pad(x[start : start + chunk], (0, 0, 0, -n % _LINE))
        logits = network.outputs(inputs, work)
        chosen = torch.log_softmax(logits, 1)[:, :, :n].gather(1, labels.expand(e, 1, -1))
        loss -= chosen.sum((1, 2), dtype=torch.float64)
        right += (logits.argmax(1)[:, :n] == labels).sum(1)
    return loss / len(x), right / len(x)


def train_members(
    part: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    *,
    architecture: str,
    options: Mapping[str, Any],
    depth: int,
    n_classes: int,
    activation: str,
    sigma_w2: Sequence[float],
    sigma_b2: float | Sequence[float],
    learning_rates: Sequence[float],
    seeds: Sequence[int],
    batch_size: int,
    momentum: float,
    steps_per_epoch: int | None,
    initialisation: str,
    readout_gain: float,
    evaluation_samples: int | None,
    at: Sequence[int],
    alpha: Sequence[float] | None = None,
    train_biases: bool = True,
    weight_decay: float = 0.0,
    observe: Callable[[Network], None] = lambda _: None,
    begin: Callable[[Descent, list[Evaluation]], None] = lambda *_: None,
    memory_limit: int | None = None,
    before_step: Callable[[], None] = lambda: None,
    group: int | None = None,
) -> list[Evaluation]:
    """Draw, train and score one ensemble of one depth; member k has the k-th of each sequence.

    ``options`` are the further arguments of the architecture's ``draw``: its sizes.
    A member's weights come from (its seed, depth, its σ_w², its α if it has one), so it is the
    same network in any ensemble, and networks at different points are independent. ``at`` lists
    the numbers of steps after which to score, ascending; ``observe(network)`` then sees the
    ensemble itself. ``evaluation_samples`` scores on the first so many samples of each part.
    ``before_step()`` is called before each step; what it raises ends the training.
    ``begin(descent, evaluations)`` is called once, before all: it may let the descent resume from
    a later step, adding to the list what was scored up to there; the list is the one returned.
    ``group``: the number of networks in the ensemble that these are a part of (see ``evaluate``).
    """
    x, y = part
    points: Iterable[tuple[float, ...]] = (
        zip(sigma_w2) if alpha is None else zip(sigma_w2, alpha, strict=True)
    )
    network = ARCHITECTURES[architecture].draw(
        activation,
        sigma_w2=sigma_w2,
        sigma_b2=sigma_b2,
        depth=depth,
        n_out=n_classes,
        seeds=[
            derive_seed(seed, "network", depth, *map(float, point))
            for seed, point in zip(seeds, points, strict=True)
        ],
        initialisation=initialisation,
        alpha=alpha,
        readout_gain=readout_gain,
        dtype=x.dtype,
        device=x.device,
        **options,
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
        weight_decay=weight_decay,
        steps_per_epoch=steps_per_epoch,
        train_biases=train_biases,
        memory_limit=memory_limit,
    )
    evaluations: list[Evaluation] = []
    begin(descent, evaluations)
    for step in at[len(evaluations) :]:
        descent.advance(step - descent.steps_done, before_step=before_step)
        evaluations.append(evaluate(network, scored[0], scored[1], group=group))
        observe(network)
    return evaluations
