"""The perceptual terms of the objectives, with random weights in the networks."""

import pytest
import torch

from smalti.nn.perceptual import ClassifierDistance, PerceptualSum
from smalti.nn.reconstruction import ReconstructionConfig, ReconstructionObjective


@pytest.fixture(scope="module")
def distance():
    import timm

    torch.manual_seed(0)
    return ClassifierDistance(timm.create_model("tf_efficientnet_lite2", pretrained=False).state_dict())


@pytest.fixture
def pair():
    rng = torch.Generator().manual_seed(1)
    a = torch.rand(3, 3, 64, 64, generator=rng) * 2 - 1
    return a, (a + 0.3 * torch.randn(a.shape, generator=rng)).clamp(-1, 1)


def test_classifier_distance_is_of_each_pair_and_zero_at_equality(distance, pair):
    a, b = pair
    assert distance(a, a).abs().max() < 1e-5
    both = distance(a, b)
    assert both.shape == (3,) and (both > 0).all()
    torch.testing.assert_close(distance(a[1:2], b[1:2]), both[1:2], rtol=1e-4, atol=1e-6)


def test_classifier_distance_sends_gradients_to_the_first_image_only(distance, pair):
    a, b = (x.requires_grad_() for x in pair)
    distance.train()(a, b).sum().backward()
    assert a.grad.abs().sum() > 0 and b.grad is None
    assert not any(p.requires_grad for p in distance.parameters()) and not distance.net.training


def test_classifier_sees_its_share_of_the_batch(distance, pair):
    a, b = pair

    def lpips(a, b):
        return (a - b).abs().mean((1, 2, 3))

    plain, seen = lpips(a, b), distance(a[:2], b[:2])
    got = PerceptualSum(lpips, distance, weight=0.5, share=0.6)(a, b)
    torch.testing.assert_close(got, plain + torch.cat([0.5 * seen, torch.zeros(1)]))
    for share in (0.0, 1.1):
        with pytest.raises(ValueError, match=f"got {share}"):
            PerceptualSum(lpips, distance, weight=0.5, share=share)


def test_classifier_refuses_weights_of_another_network(distance):
    state = dict(list(distance.net.state_dict().items())[:-1])
    with pytest.raises(RuntimeError, match="Missing key"):
        ClassifierDistance(state)


def test_objective_weighs_the_classifier_and_refuses_to_go_without(distance, pair):
    def lpips(a, b):
        return (a - b).abs().mean((1, 2, 3))

    config = ReconstructionConfig(mse=0.0, perceptual=2.0, classifier=0.5)
    both = PerceptualSum(lpips, distance, weight=config.classifier)
    objective = ReconstructionObjective(config, perceptual=both, discriminator=None)
    expected = 2.0 * (lpips(*pair) + 0.5 * distance(*pair)).mean()
    torch.testing.assert_close(objective.reconstruction(*pair).total, expected)
    for perceptual in (distance, None):
        with pytest.raises(ValueError, match="weighs a"):
            ReconstructionObjective(config, perceptual=perceptual, discriminator=None)
