"""Backbones against plain forwards, published parameter counts, and each other."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from learndyn.core import backbones, resnet
from learndyn.core.backbones import MLPConfig, ResNetConfig, SmallResNetConfig
from learndyn.core.config import ConfigError
from learndyn.core.device import generator

CONFIGS = {
    "mlp": (MLPConfig(inputs=12, hidden=(10, 6), dimensions=3, bias=True), (12,)),
    "small": (SmallResNetConfig(width=4, image_size=8, dimensions=3), (3, 8, 8)),
    "small without norms": (
        SmallResNetConfig(width=4, image_size=8, dimensions=3, batch_norm=False, pool="average"),
        (3, 8, 8),
    ),
    "resnet-18": (ResNetConfig(dimensions=3, projector=(7,)), (3, 8, 8)),
}


def _build(config, seed=0, *, dtype=torch.float64, randomise=False):
    network = config.build(generator(seed, "weights")).to(dtype)
    if randomise:  # so that scales, shifts and biases matter
        source = generator(seed, "perturbation")
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += 0.2 * torch.randn(parameter.shape, generator=source, dtype=dtype)
    return network


def _views(feature, count=6, seed=0, dtype=torch.float64):
    return torch.randn(count, *feature, generator=generator(seed, "views"), dtype=dtype)


def _same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


# Shapes and parameter counts


@pytest.mark.parametrize(("depth", "published"), [(18, 11_689_512), (50, 25_557_032)])
def test_imagenet_resnets_have_the_published_number_of_parameters(depth, published):
    network = ResNetConfig(depth=depth, stem="standard", dimensions=1000).build(generator(0))
    classifier_bias = 1000  # our last layer has none
    assert sum(p.numel() for p in network.parameters()) + classifier_bias == published


@pytest.mark.parametrize(("depth", "features"), [(18, 512), (50, 2048)])
@pytest.mark.parametrize(("stem", "kernel", "before_stage_1"), [("cifar", 3, 32), ("standard", 7, 8)])
def test_resnets_halve_the_image_where_they_should(depth, features, stem, kernel, before_stage_1):
    config = ResNetConfig(depth=depth, stem=stem, projector=(16,), dimensions=5)
    network = config.build(generator(0)).eval()
    body, sides = network.body, []
    assert body.conv1.kernel_size == (kernel, kernel)
    for stage in (body.layer1, body.layer2, body.layer3, body.layer4):
        stage.register_forward_hook(lambda _m, _i, out: sides.append(tuple(out.shape[1:])))
    with torch.no_grad():
        embedding, representation = network(torch.zeros(2, 3, 32, 32))
    assert embedding.shape == (2, 5)
    assert representation.shape == (2, features)
    first = features // 8
    assert sides == [(first * 2**i, before_stage_1 // 2**i, before_stage_1 // 2**i) for i in range(4)]


def test_the_stride_of_a_bottleneck_is_in_its_3x3():
    network = ResNetConfig(depth=50).build(generator(0))
    bottlenecks = [m for m in network.modules() if isinstance(m, resnet.Bottleneck)]
    strides = [(b.conv1.stride[0], b.conv2.stride[0], b.conv3.stride[0]) for b in bottlenecks]
    assert strides == [(1, 2 if i in (3, 7, 13) else 1, 1) for i in range(16)]


@pytest.mark.parametrize(
    ("changes", "hidden"),
    [
        ({}, 16 * 4 * 4),
        ({"pool": "average"}, 16),
        ({"image_size": 10}, 16 * 3 * 3),
        ({"width": 3, "image_size": 4}, 6),
    ],
)
def test_representation_of_the_small_resnet(changes, hidden):
    config = SmallResNetConfig(**changes)
    network = config.build(generator(0))
    embedding, representation = network(torch.zeros(2, 3, config.image_size, config.image_size))
    assert embedding.shape == (2, 8)
    assert representation.shape == (2, hidden)
    assert network.last.weight.shape == (8, hidden)
    assert network.last.bias is None


def test_the_small_resnet_has_the_parameters_of_its_recipe():
    # stem 3→8; blocks 8→8 and 8→16 of two 3×3 and one 1×1 convolution; five norms; linear 256→8
    convolutions = 27 * 8 + (72 * 8 + 72 * 8 + 8 * 8) + (72 * 16 + 144 * 16 + 8 * 16)
    norms = 2 * (8 + 8 + 8 + 16 + 16)
    counts = [
        sum(p.numel() for p in SmallResNetConfig(batch_norm=on).build(generator(0)).parameters())
        for on in (True, False)
    ]
    assert counts == [convolutions + norms + 256 * 8, convolutions + 256 * 8]


def test_an_mlp_flattens_images_and_may_be_linear():
    images = _views((3, 2, 2))
    network = _build(MLPConfig(inputs=12, hidden=(), dimensions=2))
    embedding, representation = network(images)
    torch.testing.assert_close(representation, images.flatten(1))
    torch.testing.assert_close(embedding, images.flatten(1) @ network.last.weight.T)


def test_the_projector_is_linear_norm_relu_and_a_linear_layer():
    def layers(config):
        return [type(layer) for layer in config.build(generator(0)).head]

    hidden = [nn.Linear, nn.BatchNorm1d, nn.ReLU]
    assert layers(ResNetConfig(projector=(9, 7))) == [*hidden, *hidden, nn.Linear]
    assert layers(ResNetConfig(projector=(9,), projector_batch_norm=False)) == [nn.Linear, nn.ReLU, nn.Linear]
    normed = ResNetConfig(projector=(9,)).build(generator(0)).head[0]
    plain = ResNetConfig(projector=(9,), projector_batch_norm=False).build(generator(0)).head[0]
    assert normed.bias is None
    assert plain.bias is not None


# Plain forwards written out from the state dict


def _norm(state, name, x):
    if f"{name}.weight" not in state:
        return x
    return F.batch_norm(x, None, None, state[f"{name}.weight"], state[f"{name}.bias"], training=True)


def _branch(state, prefix, x, strides):
    for i, stride in enumerate(strides, start=1):
        weight = state[f"{prefix}conv{i}.weight"]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        x = _norm(state, f"{prefix}bn{i}", x)
        x = F.relu(x) if i < len(strides) else x
    return x


def _block(state, prefix, x, strides):
    way_round = x
    if f"{prefix}downsample.0.weight" in state:
        way_round = F.conv2d(x, state[f"{prefix}downsample.0.weight"], stride=max(strides))
        way_round = _norm(state, f"{prefix}downsample.1", way_round)
    return F.relu(_branch(state, prefix, x, strides) + way_round)


def _filled(module):
    source = generator(1)
    with torch.no_grad():
        for parameter in module.double().parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=source, dtype=torch.float64))
    return module, module.state_dict()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("inputs", [4, 8])
@pytest.mark.parametrize("kind", [resnet.BasicBlock, resnet.Bottleneck])
def test_a_block_is_its_formula(kind, inputs, stride):
    block, state = _filled(kind(inputs, 8 // kind.expansion, stride))
    assert ("downsample.0.weight" in state) == (stride == 2 or inputs == 4)
    strides = (stride, 1) if kind is resnet.BasicBlock else (1, stride, 1)
    x = _views((inputs, 7, 7))
    torch.testing.assert_close(block(x), _block(state, "", x, strides), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("pool", ["flatten", "average"])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_the_small_resnet_is_its_formula(pool, batch_norm):
    config = SmallResNetConfig(pool=pool, batch_norm=batch_norm)
    network = _build(config, randomise=True)
    state, x = network.state_dict(), _views((3, 16, 16))
    assert not any("downsample.1" in name for name in state)
    found = network(x)
    hidden = F.relu(_norm(state, "body.bn1", F.conv2d(x, state["body.conv1.weight"], padding=1)))
    hidden = _block(state, "body.layer1.", hidden, (2, 1))
    hidden = _block(state, "body.layer2.", hidden, (2, 1))
    hidden = hidden.flatten(1) if pool == "flatten" else hidden.mean((2, 3))
    torch.testing.assert_close(found[1], hidden, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(found[0], hidden @ state["head.weight"].T, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("depth", "stem"), [(18, "cifar"), (18, "standard"), (50, "cifar")])
def test_a_resnet_is_its_formula(depth, stem):
    network = _build(ResNetConfig(depth=depth, stem=stem, projector=(5,), dimensions=3))
    state, x = network.state_dict(), _views((3, 9, 9), count=3)
    found = network(x)
    if stem == "cifar":
        hidden = F.conv2d(x, state["body.conv1.weight"], padding=1)
    else:
        hidden = F.conv2d(x, state["body.conv1.weight"], stride=2, padding=3)
    hidden = F.relu(_norm(state, "body.bn1", hidden))
    if stem == "standard":
        hidden = F.max_pool2d(hidden, 3, 2, 1)
    for stage, blocks in enumerate({18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}[depth], start=1):
        for i in range(blocks):
            stride = 2 if stage > 1 and i == 0 else 1
            strides = (stride, 1) if depth == 18 else (1, stride, 1)
            hidden = _block(state, f"body.layer{stage}.{i}.", hidden, strides)
    hidden = hidden.mean((2, 3))
    torch.testing.assert_close(found[1], hidden, rtol=1e-9, atol=1e-9)
    projected = F.relu(_norm(state, "head.1", hidden @ state["head.0.weight"].T))
    torch.testing.assert_close(found[0], projected @ state["head.3.weight"].T, rtol=1e-9, atol=1e-9)


def test_an_mlp_is_its_formula():
    network = _build(CONFIGS["mlp"][0], randomise=True)
    state, x = network.state_dict(), _views((12,))
    hidden = torch.relu(x @ state["body.1.weight"].T + state["body.1.bias"])
    hidden = torch.relu(hidden @ state["body.3.weight"].T + state["body.3.bias"])
    embedding, representation = network(x)
    torch.testing.assert_close(representation, hidden)
    torch.testing.assert_close(embedding, hidden @ state["head.weight"].T)


@pytest.mark.parametrize("name", CONFIGS)
def test_works_in_place_without_harm_to_gradients(name, monkeypatch):
    config, feature = CONFIGS[name]
    network = _build(config, randomise=True)
    x = _views(feature).requires_grad_()
    before = x.detach().clone()

    def gradients():
        return torch.autograd.grad(network(x)[0].square().sum(), [x, *network.parameters()])

    found = gradients()
    assert torch.equal(x, before)
    monkeypatch.setattr(torch, "relu_", torch.relu)
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    for ours, plain in zip(found, gradients(), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("side", [7, 8])
def test_a_shortcut_that_skips_pixels_is_a_strided_convolution(side):
    shortcut = resnet.shortcut(5, 4, 2, batch_norm=False)[0].double()
    x = _views((5, side, side)).requires_grad_()
    plain = F.conv2d(x, shortcut.weight, stride=2)
    torch.testing.assert_close(shortcut(x), plain)
    weights = torch.randn(plain.shape, generator=generator(1, "weights"), dtype=plain.dtype)
    both = ([x, shortcut.weight], weights)
    for ours, theirs in zip(*(torch.autograd.grad(y, *both) for y in (shortcut(x), plain)), strict=True):
        torch.testing.assert_close(ours, theirs)


# Initialisation


@pytest.mark.parametrize("name", CONFIGS)
def test_a_network_comes_from_its_seed_alone(name):
    config, _ = CONFIGS[name]
    first, other = (config.build(generator(seed)) for seed in (3, 4))
    before = torch.get_rng_state()
    again = config.build(generator(3))
    assert torch.equal(torch.get_rng_state(), before)
    assert _same(first.state_dict(), again.state_dict())
    assert not torch.equal(first.last.weight, other.last.weight)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_network_is_built_on_the_cpu_in_float32(name):
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        network = CONFIGS[name][0].build(generator(0))
    finally:
        torch.set_default_dtype(before)
    assert network.training
    for tensor in (*network.parameters(), *network.buffers()):
        assert tensor.device.type == "cpu"
        assert tensor.dtype in (torch.float32, torch.int64)
    assert all(parameter.requires_grad for parameter in network.parameters())


def _is_normal(weight, variance):
    """Mean, variance and fourth moment within five standard errors."""
    n, z = weight.numel(), weight.detach().double() / math.sqrt(variance)
    assert abs(float(z.mean())) < 5 / math.sqrt(n)
    assert abs(float(z.square().mean()) - 1) < 5 * math.sqrt(2 / n)
    assert abs(float(z.pow(4).mean()) - 3) < 5 * math.sqrt(96 / n)


@pytest.mark.parametrize(
    "config",
    [
        SmallResNetConfig(width=32),
        ResNetConfig(projector=(256,), dimensions=64),
        ResNetConfig(depth=50, fan_mode="fan_in", projector=(256,), projector_batch_norm=False),
    ],
    ids=["small", "fan_out", "fan_in"],
)
def test_every_layer_starts_as_documented(config):
    network = config.build(generator(0))
    fan_out = getattr(config, "fan_mode", "fan_in") == "fan_out"
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            outputs, inputs, height, width = layer.weight.shape
            _is_normal(layer.weight, 2 / ((outputs if fan_out else inputs) * height * width))
            assert layer.bias is None
        elif isinstance(layer, nn.Linear):
            _is_normal(layer.weight, (1 if layer is network.last else 2) / layer.in_features)
            assert layer.bias is None or not layer.bias.any()
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor, value in zip(
                (layer.weight, layer.bias, layer.running_mean, layer.running_var), (1, 0, 0, 1), strict=True
            ):
                assert torch.equal(tensor, torch.full_like(tensor, value))
            assert layer.num_batches_tracked == 0
        else:
            assert not list(layer.parameters(recurse=False))


def test_an_mlp_starts_as_documented():
    config = MLPConfig(inputs=300, hidden=(400, 200), dimensions=50, bias=True)
    network = config.build(generator(0))
    for layer, variance in ((network.body[1], 2 / 300), (network.body[3], 2 / 400), (network.last, 1 / 200)):
        _is_normal(layer.weight, variance)
    assert not network.body[1].bias.any()
    network = config.replace(initialisation="pytorch").build(generator(0))
    for layer, fan in ((network.body[1], 300), (network.body[3], 400), (network.last, 200)):
        for tensor in layer.parameters():
            u = tensor.detach().double() * math.sqrt(fan)  # uniform within ±1: variance 1/3
            assert 0.95 < u.abs().max() <= 1
            assert abs(float(u.square().mean()) - 1 / 3) < 5 * math.sqrt(4 / 45 / u.numel())


@pytest.mark.parametrize("depth", [18, 50])
def test_zero_init_residual_makes_every_block_its_shortcut(depth):
    config = ResNetConfig(depth=depth, zero_init_residual=True)
    network = config.build(generator(0))
    plain = config.replace(zero_init_residual=False).build(generator(0))
    block, usual = network.body.layer1[1], plain.body.layer1[1]
    x = torch.rand(2, 64 * block.expansion, 4, 4)
    assert torch.equal(block(x), x)  # x ≥ 0, so that the last ReLU keeps it
    assert not torch.equal(usual(x), x)
    changed = {
        name for name, p in network.state_dict().items() if not torch.equal(p, plain.state_dict()[name])
    }
    last = "bn2" if depth == 18 else "bn3"
    wanted = {f"body.{name}.weight" for name, _ in network.body.named_modules() if name.endswith(last)}
    assert {name for name in changed if name.endswith(("weight", "bias"))} == wanted  # not statistics


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("with_bias", [False, True])
def test_scales_multiply_their_group_and_nothing_else(name, with_bias):
    config, _ = CONFIGS[name]
    network = _build(config, randomise=True)
    if with_bias:
        network.last.bias = nn.Parameter(torch.ones(config.dimensions, dtype=torch.float64))
    before = copy.deepcopy(network.state_dict())
    backbones.scale_parameters_(network, body=0.25, head=8.0)
    parameters = dict(network.named_parameters())
    for key, value in network.state_dict().items():
        factor = 0.25 if key.startswith("body.") else 8.0
        if key not in parameters or (key.startswith("head.") and parameters[key] is network.last.bias):
            factor = 1  # statistics and the bias of the last layer
        assert torch.equal(value, factor * before[key]), key
    assert all(p.requires_grad for p in parameters.values())


# Stacked parameters


@pytest.mark.parametrize("name", ["mlp", "small without norms"])
@pytest.mark.parametrize("shared", [True, False])
def test_networks_that_vectorise_run_as_one(name, shared):
    config, feature = CONFIGS[name]
    assert config.vectorises
    networks = [_build(config, seed, randomise=True) for seed in range(3)]
    parameters, buffers = torch.func.stack_module_state(networks)
    assert not buffers
    x = torch.stack([_views(feature, seed=0 if shared else run) for run in range(3)])
    skeleton = copy.deepcopy(networks[0]).to("meta")

    def call(weights, views):
        return torch.func.functional_call(skeleton, weights, (views,))

    together = torch.vmap(call, in_dims=(0, None if shared else 0))(parameters, x[0] if shared else x)
    for run, network in enumerate(networks):
        for ours, alone in zip(together, network(x[run]), strict=True):
            torch.testing.assert_close(ours[run], alone, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["small", "resnet-18"])
def test_networks_with_statistics_do_not_say_that_they_vectorise(name):
    assert not CONFIGS[name][0].vectorises


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_of_each_sample_under_torch_func(name):
    config, feature = CONFIGS[name]
    network = _build(config, randomise=True)
    x = _views(feature, count=3)
    backbones.freeze_batch_norm(network, x)
    parameters = dict(network.named_parameters())
    block = {name: p.detach() for name, p in list(parameters.items())[:2]}  # a part, as a tangent kernel does

    def output(part, sample):
        return torch.func.functional_call(network, part, (sample[None],))[0].sum()

    together = torch.vmap(torch.func.grad(output), in_dims=(None, 0))(block, x)
    for i in range(3):
        alone = torch.autograd.grad(network(x[i : i + 1])[0].sum(), [parameters[n] for n in block])
        for name_, gradient in zip(block, alone, strict=True):
            torch.testing.assert_close(together[name_][i], gradient, rtol=1e-9, atol=1e-9)


# Batch normalisation of views, and without batches


def test_each_view_is_normalised_by_itself():
    network = _build(SmallResNetConfig(image_size=8), randomise=True)
    a, b = _views((3, 8, 8)), 3 * _views((3, 8, 8), seed=1) + 2
    apart, together = network(a)[0], network(torch.cat((a, b)))[0][:6]
    assert (apart - together).abs().max() > 0.1
    # seen alone, a view loses its own contrast and brightness
    torch.testing.assert_close(network(3 * a)[0], apart, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", CONFIGS)
def test_frozen_norms_repeat_the_pass_that_they_were_frozen_on(name):
    config, feature = CONFIGS[name]
    network = _build(config, randomise=True)
    a, b = _views(feature), _views(feature, seed=1) + 1
    with torch.no_grad():
        wanted = network(torch.cat((a, b)))
        backbones.freeze_batch_norm(network, a, b)
        assert not any(module.training for module in network.modules())
        for sample in (torch.cat((a, b)), a, b[2:3]):
            rows = slice(None) if len(sample) == 12 else slice(0, 6) if len(sample) == 6 else slice(8, 9)
            for found, target in zip(network(sample), wanted, strict=True):
                torch.testing.assert_close(found, target[rows], rtol=1e-9, atol=1e-9)
        network.train()
        network(a)  # nothing records any more: momentum is what it was
        backbones.freeze_batch_norm(network, torch.cat((a, b)))
        torch.testing.assert_close(network(a)[0], wanted[0][:6], rtol=1e-9, atol=1e-9)


def test_freezing_takes_no_gradient_and_changes_no_parameter():
    config, feature = CONFIGS["resnet-18"]
    network = _build(config)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    backbones.freeze_batch_norm(network, _views(feature))
    assert _same(before, {name: p.detach() for name, p in network.named_parameters()})
    assert not any(buffer.requires_grad for buffer in network.buffers())
    assert not any(module._forward_hooks for module in network.modules())


# What is refused


@pytest.mark.parametrize(
    ("config", "values", "sentence"),
    [
        (ResNetConfig, {"depth": 34}, "ResNetConfig.depth = 34: must be 18 or 50"),
        (ResNetConfig, {"stem": "imagenet"}, "ResNetConfig.stem = 'imagenet': must be 'cifar' or 'standard'"),
        (
            ResNetConfig,
            {"projector": (64, 0)},
            "ResNetConfig.projector[1] = 0: must be greater than or equal to 1",
        ),
        (
            SmallResNetConfig,
            {"image_size": 3},
            "SmallResNetConfig.image_size = 3: must be at least 4, since both blocks halve the image",
        ),
        (
            SmallResNetConfig,
            {"pool": "max"},
            "SmallResNetConfig.pool = 'max': must be 'flatten' or 'average'",
        ),
        (MLPConfig, {"dimensions": 0}, "MLPConfig.dimensions = 0: must be greater than or equal to 1"),
        (MLPConfig, {"hidden": (8.5,)}, "MLPConfig.hidden[0] = 8.5: must be a whole number"),
    ],
)
def test_bad_configurations_are_refused_in_one_sentence(config, values, sentence):
    with pytest.raises(ConfigError) as refused:
        config(**values)
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    ("name", "shape", "sentence"),
    [
        ("mlp", (2, 13), "this network takes views of 12 features, not of 13"),
        ("small", (2, 3, 8, 9), "this network takes views of 3 × 8 × 8 features, not of 3 × 8 × 9"),
        ("resnet-18", (2, 1, 8, 8), "this network takes views of 3 × any × any features, not of 1 × 8 × 8"),
        ("resnet-18", (2, 192), "this network takes views of 3 × any × any features, not of 192"),
    ],
)
def test_views_of_another_shape_are_refused_in_one_sentence(name, shape, sentence):
    network = CONFIGS[name][0].build(generator(0))
    with pytest.raises(backbones.BackboneError) as refused:
        network(torch.zeros(shape))
    assert str(refused.value) == sentence


def test_configurations_differ_by_their_kind():
    assert MLPConfig().fingerprint() != SmallResNetConfig().fingerprint()
    assert '"kind": "mlp"' in MLPConfig().to_json()
