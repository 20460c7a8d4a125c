"""Convolutional and alternating networks: their draws, and training as torch itself trains them."""

import copy
import math
import tracemalloc

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mflib.experiment import data, descent, draws
from mflib.experiment.layers import Convolution, Workspace, _tables
from mflib.experiment.networks import ARCHITECTURES, Alternating, Convolutional

DOUBLE = torch.float64
SIZES = {"channels": 5, "depth": 7, "image_shape": (1, 8, 8), "n_out": 10, "stride2": 1}
KINDS = [ARCHITECTURES[name] for name in ("convolutional", "alternating")]


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", dtype=DOUBLE)


def draw(kind=Convolutional, **changes):
    settings = {
        "activation": "tanh",
        "sigma_w2": [1.2, 1.9, 1.5],
        "sigma_b2": [0.05, 0.1, 0.02],
        "seeds": [3, 4, 5],
        "dtype": DOUBLE,
        **SIZES,
    }
    return kind.draw(**{**settings, **changes})


# ---- the networks ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("readout", ["pool", "flatten"])
@pytest.mark.parametrize(("image_shape", "stride2"), [((1, 8, 8), 1), ((3, 7, 10), 2)])
def test_batched_outputs_are_those_of_plain_modules(kind, readout, image_shape, stride2):
    """Odd and oblong images too: ⌈7/2⌉ × ⌈10/2⌉ is what torch makes of them."""
    network = draw(kind, readout=readout, image_shape=image_shape, stride2=stride2)
    x = torch.randn(6, math.prod(image_shape), dtype=DOUBLE, generator=torch.Generator())
    states = network.pre_activations(x)
    assert len(states) == network.depth + 1 == SIZES["depth"] + 1
    torch.testing.assert_close(states[-1], network.logits(x))
    for k in range(3):
        module = network.module(k)
        torch.testing.assert_close(module(x), states[-1][k])
        taken = iter(states)
        y = x
        for step in module:
            y = step(y)
            if isinstance(step, torch.nn.Conv2d | torch.nn.Linear):
                z = next(taken)[k]
                torch.testing.assert_close(y, z.flatten(1) if y.ndim == 2 else z)
    torch.testing.assert_close(network.logits(x.expand(3, *x.shape).contiguous()), states[-1])


@pytest.mark.parametrize("kind", ARCHITECTURES.values())
def test_a_readout_gain_multiplies_the_readout_and_nothing_else(kind):
    sizes = {"width": 9, "n_in": 64, "n_out": 10, "depth": 3}
    sizes = sizes if kind is ARCHITECTURES["fully-connected"] else SIZES
    plain, loud = (
        kind.draw("tanh", sigma_w2=[1.5], sigma_b2=0.1, seeds=[1], readout_gain=gain, **sizes)
        for gain in (1.0, 30.0)
    )
    *below, readout = zip(plain.weights, loud.weights, strict=True)
    assert torch.equal(30 * readout[0], readout[1])
    for a, b in (*below, *zip(plain.biases, loud.biases, strict=True)):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match="readout_gain=0 must be above 0"):
        kind.draw("tanh", sigma_w2=[1.5], sigma_b2=0.1, seeds=[1], readout_gain=0, **sizes)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", draws.KERNEL_SCHEMES)
def test_a_member_is_the_same_network_in_any_company(kind, scheme):
    alpha = [1.4, 2.0, 0.8] if scheme == "stable" else None
    together = draw(kind, initialisation=scheme, alpha=alpha)
    for k, (w2, b2, seed) in enumerate([(1.2, 0.05, 3), (1.9, 0.1, 4), (1.5, 0.02, 5)]):
        alone = draw(
            kind, initialisation=scheme, sigma_w2=[w2], sigma_b2=b2, seeds=[seed],
            alpha=alpha and alpha[k : k + 1],
        )  # fmt: skip
        for a, b in zip(
            (*together.weights, *together.biases), (*alone.weights, *alone.biases), strict=True
        ):
            # A QR in a batch rounds otherwise than alone; a Gaussian draw does not round.
            torch.testing.assert_close(a[k], b[0], rtol=0, atol=1e-14 * (scheme != "gaussian"))


def test_alternating_networks_alternate():
    kinds = [type(layer).__name__ for layer in draw(Alternating).layers]
    assert kinds == ["Convolution"] * 2 + ["Dense", "Convolution"] * 2 + ["Dense", "PooledDense"]


def test_delta_orthogonal_towers_keep_every_norm():
    """With φ = 1 and no bias each convolution multiplies the norm of every position by σ_w.

    The stem goes from 3 channels to 8, the strided convolution reads every second position.
    """
    w2 = [1.0, 1.21]
    network = draw(
        activation="linear", sigma_w2=w2, sigma_b2=0, seeds=[0, 1], channels=8, depth=40,
        image_shape=(3, 6, 6),
    )  # fmt: skip
    x = torch.randn(4, 108, dtype=DOUBLE, generator=torch.Generator())
    *tower, _ = network.pre_activations(x)
    norms = x.view(4, 3, 6, 6).square().sum(1)
    for depth, z in enumerate(tower, start=1):
        expected = norms if depth == 1 else norms[:, ::2, ::2]
        for k in range(2):
            torch.testing.assert_close(
                z[k].square().sum(1), w2[k] ** depth * expected, rtol=1e-11, atol=0
            )


def test_an_orthogonal_stem_embeds_patches_and_lets_every_pixel_in():
    """One 3 × 3 patch has 9 pixels: with 12 channels every patch keeps its mean square, times 12/9.

    Behind a delta stem one convolution of stride 2 leaves a quarter of the pixels.
    """
    x = torch.randn(5, 64, dtype=DOUBLE, generator=torch.Generator())
    patches = torch.nn.functional.unfold(
        torch.nn.functional.pad(x.view(5, 1, 8, 8), (1,) * 4, mode="circular"), 3
    )
    network = draw(
        activation="linear", sigma_w2=[1.3], sigma_b2=0, seeds=[0], channels=12, stem="orthogonal"
    )
    z = network.pre_activations(x)
    expected = 1.3 * 12 / 9 * patches.square().sum(1).view(5, 8, 8)
    torch.testing.assert_close(z[0][0].square().sum(1), expected)
    torch.testing.assert_close(z[5][0].square().sum(1), 1.3**5 * expected[:, ::2, ::2])

    def pixels_seen(stem):
        module = draw(seeds=[0], sigma_w2=[1.3], sigma_b2=0, channels=12, stem=stem).module(0)
        inputs = x.clone().requires_grad_()
        module[:5](inputs).square().sum().backward()
        return (inputs.grad != 0).any(0).sum().item()

    assert (pixels_seen(None), pixels_seen("orthogonal")) == (16, 64)


@pytest.mark.parametrize("stride2", [0, 1, 2])
def test_a_linear_pooled_network_sees_the_sums_over_sublattices_alone(stride2):
    """Pixels shuffled within each sublattice of spacing 2^s change no logit of a pooled one."""
    spacing = 2**stride2
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(3, 64, dtype=DOUBLE, generator=generator)
    blocks = x.view(3, 8 // spacing, spacing, 8 // spacing, spacing).permute(0, 2, 4, 1, 3)
    shuffled = blocks.flatten(3)[..., torch.randperm(64 // spacing**2, generator=generator)]
    other = shuffled.view(blocks.shape).permute(0, 3, 1, 4, 2).reshape(3, 64)
    assert (x - other).abs().max() > 0.1
    for readout, same in (("pool", True), ("flatten", False)):
        network = draw(
            activation="linear", stride2=stride2, readout=readout, initialisation="gaussian"
        )
        one, two = network.logits(x), network.logits(other)
        assert torch.allclose(one, two, rtol=0, atol=1e-12) == same


@pytest.mark.parametrize("scheme", ["gaussian", "orthogonal"])
def test_kernel_variances_are_the_stated_ones(scheme):
    """Within 5 standard errors of a Gaussian sample's; those of orthogonal entries are smaller."""
    members = draws.generators(range(40))
    w2 = torch.full((40,), 1.7, dtype=DOUBLE)
    kernels = draws.draw_kernels(6, 9, 3, w2, members, scheme=scheme, dtype=DOUBLE)
    assert kernels.shape == (40, 9, 6, 3, 3)
    stated = 1.7 / 54
    assert abs(kernels.var().item() - stated) < 5 * stated * math.sqrt(2 / kernels.numel())
    assert abs(kernels.mean().item()) < 5 * math.sqrt(stated / kernels.numel())
    by_tap = kernels.square().mean((0, 1, 2))
    assert (by_tap - stated).abs().max() < 5 * stated * math.sqrt(2 / (40 * 54))


def test_orthogonal_kernels_are_orthogonal_as_matrices_and_no_isometries():
    members = draws.generators([1])
    kernels = draws.draw_kernels(
        4, 4, 3, torch.ones(1, dtype=DOUBLE), members, scheme="orthogonal", dtype=DOUBLE
    )
    matrix = kernels[0].flatten(1)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(4, dtype=DOUBLE), rtol=0, atol=1e-12)
    x = torch.randn(1, 4, 5, 5, dtype=DOUBLE, generator=torch.Generator())
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="circular")
    y = torch.nn.functional.conv2d(padded, kernels[0])
    assert abs(y.norm() / x.norm() - 1) > 1e-3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kernel": 4}, "kernel=4 must be odd"),
        ({"kernel": 0}, "kernel=0 must be at least 1"),
        ({"kernel": 3.0}, "kernel=3.0 must be an integer"),
        ({"kernel": 11}, "kernel=11 wraps around a feature map of 4 x 4 positions"),
        ({"image_shape": (8, 8)}, r"image_shape=\(8, 8\) must be \(channels, height, width\)"),
        ({"image_shape": (1, 0, 8)}, "image_shape=0 must be at least 1"),
        ({"image_shape": (6, 8, 8)}, "from 6 to 5 channels cannot keep norms: give at least 6"),
        ({"channels": 0}, "channels=0 must be at least 1"),
        ({"depth": 1}, "depth=1 must be at least 2: it counts the first convolution"),
        ({"depth": 0}, "depth=0 must be at least 1"),
        ({"stride2": -1}, "stride2=-1 must be at least 0"),
        ({"readout": "max"}, "readout='max' must be one of pool, flatten"),
        ({"initialisation": "dirac"}, "'dirac' is not one of gaussian, orthogonal, delta-orth"),
        ({"stem": "dirac"}, "'dirac' is not one of gaussian, orthogonal, delta-orth"),
        ({"sigma_b2": [0.1]}, "1 values of sigma_b2 for 3 seeds"),
        ({"sigma_w2": [1.0, -1.0, 1.0]}, "sigma_w2=-1.0 must be at least 0"),
        ({"activation": "swish"}, "'swish' cannot be trained"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_drawing_refuses_bad_values(monkeypatch, kind, change, says):
    monkeypatch.setattr(draws, "standard_normal", None)  # nothing may be drawn
    with pytest.raises(ValueError, match=says) as caught:
        draw(kind, **change)
    assert "\n" not in str(caught.value)


# ---- the maps -------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "kernel"), [((4, 4), 3), ((2, 3), 3), ((1, 1), 3), ((5, 6), 5)])
def test_the_tables_are_inverse_to_each_other(size, kernel):
    layer = Convolution(2, 2, size, kernel)
    taken, given = (t.view(kernel**2, -1) for t in _tables(layer, torch.device("cpu")))
    here = torch.arange(size[0] * size[1]).expand_as(taken)
    assert torch.equal(taken.gather(1, given), here)
    assert torch.equal(given.gather(1, taken), here)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("c_in", "c_out"), [(3, 3), (4, 2), (2, 5)])
@pytest.mark.parametrize(("size", "kernel"), [((4, 6), 3), ((1, 2), 3), ((5, 5), 5)])
def test_a_convolution_and_its_two_products_are_those_of_autograd(
    stride, c_in, c_out, size, kernel
):
    """Both orders of gathering, wrapping kernels, strides: z, Wᵀδ and δ yᵀ for two members."""
    layer = Convolution(c_in, c_out, size, kernel, stride)
    e, n = 2, 3
    generator = torch.Generator().manual_seed(7)

    def normal(*shape):
        return torch.randn(*shape, dtype=DOUBLE, generator=generator)

    weight, bias = normal(e, *layer.weight_shape), normal(e, 1, c_out)
    y, delta = normal(e, layer.n_in, n), normal(e, layer.n_out, n)
    work = Workspace(y)
    laid = layer.lay_out(weight.clone())
    z, passed = normal(e, layer.n_out, n), normal(e, layer.n_in, n)
    layer.up(laid, bias, y, z, work)

    def descend(parameter, velocity, a, b):
        assert velocity is None
        parameter.baddbmm_(a, b)

    layer.down(laid, None, y, delta, passed, descend, work)
    for k in range(e):
        w = weight[k].clone().requires_grad_()
        x = y[k].T.reshape(n, c_in, *size).clone().requires_grad_()
        reach = kernel // 2
        padded = torch.nn.functional.pad(x, (reach,) * 4, mode="circular")
        out = torch.nn.functional.conv2d(padded, w, bias[k, 0], stride)
        torch.testing.assert_close(z[k].T.reshape(out.shape), out)
        out.backward(delta[k].T.reshape(out.shape))
        torch.testing.assert_close(passed[k].T.reshape(x.shape), x.grad)
        torch.testing.assert_close(laid[k] - weight[k], w.grad)


# ---- training -------------------------------------------------------------------------------


def by_the_book(module, dataset, *, rate, seed, batch_size, momentum, steps, steps_per_epoch):
    """Train a plain module with torch's own loss, autograd and optimiser."""
    optimiser = torch.optim.SGD(module.parameters(), lr=rate, momentum=momentum)
    for step in range(steps):
        epoch, i = divmod(step, steps_per_epoch)
        order = descent.sample_order(len(dataset.x_train), seed, epoch, steps_per_epoch, batch_size)
        optimiser.zero_grad()
        outputs = module(dataset.x_train[order[i]])
        torch.nn.functional.cross_entropy(outputs, dataset.y_train[order[i]]).backward()
        optimiser.step()
    return module


@pytest.mark.parametrize("momentum", [0.0, 0.8])
@pytest.mark.parametrize(("readout", "activation"), [("pool", "tanh"), ("flatten", "erf")])
@pytest.mark.parametrize("scheme", ["gaussian", "delta-orthogonal"])
@pytest.mark.parametrize("kind", KINDS)
def test_ensemble_equals_training_each_alone(digits, kind, scheme, readout, activation, momentum):
    """Different σ's, seeds and rates side by side, checkpointed, over more than one epoch.

    Of the two activations one has its slope from its output, the other keeps z as well.
    """
    network = draw(kind, activation=activation, initialisation=scheme, readout=readout)
    modules = [network.module(k) for k in range(3)]
    seeds, rates = [3, 8, 3], [0.02, 0.05, 0.03]
    run = {"batch_size": 16, "momentum": momentum, "steps_per_epoch": 5}
    trained = descent.Descent(
        network, digits.x_train, digits.y_train, learning_rates=rates, seeds=seeds,
        memory_limit=0, **run,
    )  # fmt: skip
    assert trained.segment == 2
    trained.advance(8)
    for k, module in enumerate(modules):
        before = [p.detach().clone() for p in module.parameters()]
        by_the_book(module, digits, rate=rates[k], seed=seeds[k], steps=8, **run)
        ours = network.module(k).parameters()
        for a, b, start in zip(ours, module.parameters(), before, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
            assert not torch.equal(a, start)


def test_weights_in_any_order_in_memory_are_trained(digits):
    """A network whose weights came from elsewhere, say a checkpoint, is contiguous."""
    network = draw(stem="orthogonal")
    loaded = copy.deepcopy(network)
    loaded.weights = [w.clone(memory_format=torch.contiguous_format) for w in loaded.weights]
    assert loaded.weights[3].stride() != network.weights[3].stride()
    for one in (network, loaded):
        descent.Descent(
            one, digits.x_train, digits.y_train, learning_rates=[0.05] * 3, seeds=[0] * 3,
            batch_size=8, momentum=0.5,
        ).advance(2)  # fmt: skip
    for a, b in zip(network.weights, loaded.weights, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("activation", ["tanh", "gelu"])
@pytest.mark.parametrize("kind", ARCHITECTURES.values())
def test_checkpointing_changes_no_bit_and_takes_less_memory(digits, kind, activation):
    sizes = (
        {"width": 9, "n_in": 64, "n_out": 10}
        if kind is ARCHITECTURES["fully-connected"]
        else {**SIZES}
    )
    for depth in (2, 7, 16, 17, 30):
        start = kind.draw(
            activation, sigma_w2=[1.5, 1.9], sigma_b2=0.01, seeds=[0, 1], dtype=torch.float32,
            **{**sizes, "depth": depth},
        )  # fmt: skip
        results, taken = [], []
        for limit in (None, 0):
            network = copy.deepcopy(start)
            trained = descent.Descent(
                network, digits.x_train.float(), digits.y_train, learning_rates=[0.05] * 2,
                seeds=[0, 1], batch_size=8, momentum=0.5, memory_limit=limit,
            )  # fmt: skip
            trained.advance(3)
            results.append([*network.weights, *network.biases])
            taken.append(trained.activation_bytes)
            assert trained.segment == (depth if limit is None else math.isqrt(depth))
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
        assert depth < 16 or taken[1] < 0.75 * taken[0]


def test_what_is_kept_grows_as_the_root_of_the_depth(digits):
    """2 √depth layers' worth, to the front's larger maps and the rounding of the root."""

    def kept(depth):
        network = draw(
            sigma_w2=[1.0], sigma_b2=0, seeds=[0], depth=depth, initialisation="gaussian"
        )
        trained = descent.Descent(
            network, digits.x_train, digits.y_train, learning_rates=[0.1], seeds=[0],
            batch_size=4, memory_limit=0,
        )  # fmt: skip
        return trained.activation_bytes / (8 * 4 * 5 * 16)

    for depth in (100, 400, 900):
        assert 2 * math.isqrt(depth) - 2 <= kept(depth) <= 2 * math.isqrt(depth) + 6


def test_members_do_not_know_their_company(digits):
    def train(keep):
        seeds = [7, 9, 7]
        network = draw(
            sigma_w2=[[1.2, 1.9, 1.5][k] for k in keep], sigma_b2=0.01,
            seeds=[[3, 4, 5][k] for k in keep],
        )  # fmt: skip
        descent.Descent(
            network, digits.x_train, digits.y_train, seeds=[seeds[k] for k in keep],
            learning_rates=[[0.02, 1e308, 0.05][k] for k in keep], batch_size=8,
        ).advance(5)  # fmt: skip
        return network

    whole, rest = train([0, 1, 2]), train([0, 2])
    assert not whole.weights[0][1].isfinite().all()
    for a, b in zip(whole.weights, rest.weights, strict=True):
        torch.testing.assert_close(a[[0, 2]], b, rtol=1e-10, atol=1e-13)


def test_a_run_can_be_stopped_between_two_steps(digits):
    network = draw(sigma_w2=[1.0], sigma_b2=0, seeds=[0])
    trained = descent.Descent(
        network, digits.x_train, digits.y_train, learning_rates=[0.01], seeds=[0], batch_size=8
    )
    left = [None, None]
    with pytest.raises(IndexError, match="empty"):
        trained.advance(10, before_step=left.pop)
    assert trained.steps_done == 2


class _Watch(TorchDispatchMode):
    """Record every operation's name and how much memory it makes anew."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("readout", ["pool", "flatten"])
@pytest.mark.parametrize("limit", [None, 0])
def test_a_step_neither_waits_for_the_device_nor_makes_tensors(digits, kind, readout, limit):
    """A CUDA graph can be captured from operations that need no answer on the host."""
    network = draw(kind, readout=readout, stem="orthogonal")
    trained = descent.Descent(
        network, digits.x_train, digits.y_train, learning_rates=[0.01] * 3, seeds=[0, 1, 0],
        batch_size=8, momentum=0.9, memory_limit=limit,
    )  # fmt: skip
    trained.advance(1)
    held = trained.work.bytes
    with _Watch() as watch, torch.no_grad():
        trained.step()
    assert len(watch.names) > 50
    waits = {"_local_scalar_dense", "nonzero", "item", "equal", "is_nonzero", "_to_copy"}
    makes = {"empty", "zeros", "clone", "cat", "stack", "zeros_like", "empty_like"}
    assert not (waits | makes) & set(watch.names)
    assert trained.work.bytes == held


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", KINDS)
def test_cuda_graph_takes_the_same_steps(digits, kind):
    def train(device):
        network = draw(kind)
        network.weights = [w.to(device) for w in network.weights]
        network.biases = [b.to(device) for b in network.biases]
        trained = descent.Descent(
            network, digits.x_train.to(device), digits.y_train.to(device),
            learning_rates=[0.01, 0.05, 0.02], seeds=[0, 1, 0], batch_size=16, momentum=0.9,
            memory_limit=0,
        )  # fmt: skip
        trained.advance(12)
        return trained

    on_gpu, on_cpu = train("cuda"), train("cpu")
    assert on_gpu.graph is not None
    for a, b in zip(on_gpu.network.weights, on_cpu.network.weights, strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-8, atol=1e-11)


def test_delta_orthogonal_towers_learn_where_gaussian_ones_cannot(digits):
    """The very deep recipe in small: 400 layers of 8 channels on the critical line, 30 steps.

    σ_w², σ_b² belong to tanh with χ₁ = 1 and q* = 1e-4. Chance is 0.1, two standard errors of
    360 test images are 0.032. Where kernels are Gaussian, the square of a signal that is constant
    over the positions typically shrinks by exp(−1/channels) in a layer of the same variance, here
    by exp(−50) in all, and every other Fourier mode shrinks more.
    """
    images = data.load("digits")
    scores = {}
    for scheme, stem in (("delta-orthogonal", "orthogonal"), ("gaussian", None)):
        network = Convolutional.draw(
            "tanh", sigma_w2=[1.00019997] * 2, sigma_b2=1.3325e-12, channels=8, depth=400,
            image_shape=(1, 8, 8), n_out=10, seeds=[0, 1], stride2=1, stem=stem,
            initialisation=scheme, readout="flatten", readout_gain=10.0,
        )  # fmt: skip
        descent.Descent(
            network, images.x_train, images.y_train, learning_rates=[2e-4] * 2, seeds=[0, 1],
            batch_size=32, momentum=0.9,
        ).advance(30)  # fmt: skip
        part = (images.x_test, images.y_test)
        scores[scheme] = descent.evaluate(network, part, part).test_accuracy
    assert (scores["delta-orthogonal"] > 0.5).all()
    assert (abs(scores["gaussian"] - 0.1) < 2 * math.sqrt(0.09 / 360)).all()


def test_ten_thousand_layers_take_a_step_in_bounded_memory(digits):
    """A step of 10,000 layers on 2 × 2 positions: 200 kept tensors, and every weight moves.

    All activations would take 10,000 × 4 channels × 4 positions × 8 samples × 4 bytes = 5 MB;
    the limit is a tenth of it.
    """
    limit = 500_000
    network = draw(
        sigma_w2=[1.0], sigma_b2=0, seeds=[0], depth=10_000, channels=4, image_shape=(1, 8, 8),
        stride2=2, dtype=torch.float32,
    )  # fmt: skip
    before = [w.clone() for w in network.weights]
    trained = descent.Descent(
        network, digits.x_train.float(), digits.y_train, learning_rates=[1e-3], seeds=[0],
        batch_size=8, memory_limit=limit,
    )  # fmt: skip
    assert trained.segment == 100
    tracemalloc.start()
    try:
        trained.advance(1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert trained.activation_bytes <= limit
    assert trained.work.bytes <= limit
    assert peak <= limit
    moved = [not torch.equal(a, b) for a, b in zip(network.weights, before, strict=True)]
    assert all(moved)
    assert all(w.isfinite().all() for w in network.weights)
