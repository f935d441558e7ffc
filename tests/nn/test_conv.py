"""Proves that the fast upsampling equals the slow one, borders included, and that training does not use it."""

import pytest
import torch
import torch.nn.functional as F

from smalti.nn.conv import Upsample, upsampled_conv


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (8, 8)])
def test_the_transposed_convolution_equals_the_plain_one(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = Upsample(6).double()
    x = torch.randn(2, 6, *size, dtype=torch.float64)
    plain = layer.conv(F.interpolate(x, scale_factor=2, mode="nearest"))
    torch.testing.assert_close(upsampled_conv(x, layer.conv), plain)


def test_a_model_in_use_takes_it_and_one_in_training_does_not() -> None:
    torch.manual_seed(0)
    layer, x = Upsample(6), torch.randn(1, 6, 4, 4)
    plain = layer(x)
    assert plain.requires_grad
    with torch.no_grad():
        fast = layer(x)
        assert torch.equal(fast, upsampled_conv(x, layer.conv))
    torch.testing.assert_close(fast, plain.detach())
