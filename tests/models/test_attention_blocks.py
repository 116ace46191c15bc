"""What all attention blocks have in common, through the catalogue: a new entry is tested when it is listed."""

import pytest
import torch
from torch import nn

from attn_export.models.attention.catalogue import KINDS
from attn_export.models.equip import Equipment
from attn_export.models.registry import Architecture, architecture, create, split_name

OTHERS = [name for name in KINDS if name not in ("se", "cbam")]  # these have all backbones' tests
DTYPES = [torch.float64, torch.float32, torch.bfloat16]


def block(name: str, channels: int = 16, identity: bool = False) -> nn.Module:
    torch.manual_seed(0)
    equipment = Equipment(name, init="identity" if identity else "paper")
    return equipment.block(channels).eval()


def stirred(attention: nn.Module) -> nn.Module:
    """The block with other numbers in all parameters: GCT's gate starts at 1."""
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return attention


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 1, 1), (16, 7, 7), (24, 5, 9), (64, 1, 3)])
def test_the_shape_stays(name, channels, height, width):
    x = torch.randn(2, channels, height, width)
    out = block(name, channels)(x)
    assert out.shape == x.shape
    assert out.isfinite().all()


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_dtype_stays(name, dtype):
    assert block(name).to(dtype)(torch.randn(2, 16, 4, 4, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize("name", KINDS)
def test_the_input_is_not_changed_and_images_do_not_influence_each_other(name):
    attention, x = stirred(block(name)).double(), torch.randn(3, 16, 4, 4, dtype=torch.float64)
    before = x.clone()
    out = attention(x)
    assert torch.equal(x, before)
    torch.testing.assert_close(out[1:2], attention(x[1:2]))
    assert not torch.equal(out, x), "a block that does nothing would pass all of this"


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("value", [0, -4, 16.0, "16"])
def test_channels_that_are_no_positive_integer_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=r"channels is .*; it must be an integer of at least 1"):
        KINDS[name].build(value)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("training", [False, True])
def test_a_block_that_starts_as_the_identity_is_it_bit_for_bit(name, dtype, training):
    attention = block(name, identity=True).to(dtype).train(training)
    x = (10 * torch.randn(4, 16, 6, 6)).to(dtype)
    x[0, 0], x[1] = 0, -0.0
    out = attention(x)
    assert torch.equal(out.view(torch.uint8), x.view(torch.uint8)), "the sign of zero included"


@pytest.mark.parametrize("name", KINDS)
def test_a_block_that_starts_as_the_identity_trains(name):
    """Every parameter has a gradient after a few steps, and the output is no longer the input."""
    attention = block(name, identity=True).train()
    optimizer = torch.optim.SGD(attention.parameters(), lr=1e-3)
    x = 3 * torch.randn(8, 16, 6, 6) + torch.randn(8, 16, 1, 1)
    for _ in range(4):
        optimizer.zero_grad()
        (attention(x) - x.roll(1, 0)).square().mean().backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.any() for p in attention.parameters())
    assert not torch.equal(attention.eval()(x), x)


@pytest.mark.parametrize("name", KINDS)
def test_the_two_forms_of_a_block_have_the_same_parameters_unless_the_paper_has_none(name):
    papers, identity = (block(name, identity=identity).state_dict() for identity in (False, True))
    assert papers.keys() <= identity.keys()
    assert all(identity[n].shape == t.shape for n, t in papers.items())


# In a network.


@pytest.mark.parametrize("name", OTHERS)
def test_the_zoo_has_it_with_every_backbone(name):
    assert split_name(f"{name}_resnet50") == (name, "resnet50")
    arch = architecture(f"{name}_resnet8", num_classes=3)
    assert architecture("resnet8", attention=name, num_classes=3) == arch
    assert Architecture.from_dict(arch.to_dict()) == arch


@pytest.mark.parametrize("name", OTHERS)
def test_the_seed_is_the_only_source_of_its_weights(name):
    torch.manual_seed(1)
    first = create(f"{name}_resnet8").state_dict()
    torch.manual_seed(2)
    second = create(f"{name}_resnet8").state_dict()
    assert all(torch.equal(first[n], second[n]) for n in first)


@pytest.mark.parametrize("name", OTHERS)
def test_a_new_network_uses_its_attention_and_stays_in_range(name):
    network = create(f"{name}_resnet8")
    blocks = [m for n, m in network.named_modules() if n.endswith(".attention")]
    changed = []
    for attention in blocks:
        attention.register_forward_hook(lambda m, args, out: changed.append((out / args[0]).std().item()))
    with torch.no_grad():
        logits = network(torch.randn(4, 3, 32, 32))
    assert len(changed) == 3
    assert min(changed) > 0.01, "a gate that is the same everywhere would prove nothing"
    assert logits.isfinite().all()
    assert 1e-3 < logits.std() < 1e3
