"""Proves the rule of confidence: the surest open positions are decided, known ones first, and positions are drawn with
the noise that belongs to the temperature.
"""

import torch

from smalti.decoding.guidance import Guidance
from smalti.decoding.noise import Noise
from smalti.decoding.prediction import Confident
from smalti.decoding.sampling import Sampling

PEAKS = torch.tensor([1.0, 3.0, 2.0, 5.0])
PLACES = torch.tensor([[2, 4, 5, 9]])


def predicted(count: int, known: list[int] | None = None, batch: int = 1) -> Confident:
    """Four open positions of two codes; code 1 is the likely one, the surer the higher its logit."""
    logits = torch.stack([torch.zeros(4), PEAKS], dim=-1).expand(1, batch, -1, -1)
    ids = torch.tensor([known or [-1] * 4]).expand(batch, -1)
    return Confident(logits_RBmV=logits, positions_Bm=PLACES.expand(batch, -1), ids_Bm=ids, count=count)


def test_the_surest_positions_come_first() -> None:
    """Greedy: by the logit of the code that is drawn."""
    choice = predicted(2).draw(Guidance(), Sampling.greedy(), Noise.of(0, 1), step=0, steps=4)
    assert choice.positions.tolist() == [[9, 4]] and choice.ids.tolist() == [[1, 1]]
    assert choice.logprobs.tolist() == [[0, 0]], "a greedy draw is certain"


def test_known_positions_come_before_the_surest() -> None:
    """With their id, and its log-probability in the distribution of the step."""
    known = predicted(3, [-1, -1, 0, -1])
    choice = known.draw(Guidance(), Sampling.greedy(), Noise.of(0, 1), step=0, steps=4)
    assert choice.positions.tolist() == [[5, 9, 4]] and choice.ids.tolist() == [[0, 1, 1]]
    choice = known.draw(Guidance(), Sampling(), Noise.of(0, 1), step=0, steps=4)
    assert choice.positions[0, 0] == 5 and choice.ids[0, 0] == 0
    assert torch.allclose(choice.logprobs[0, 0], (-PEAKS[2]).sigmoid().log())


def test_a_step_may_decide_nothing() -> None:
    """More steps than tokens."""
    choice = predicted(0).draw(Guidance(), Sampling.greedy(), Noise.of(0, 1), step=0, steps=4)
    assert choice.positions.shape == choice.ids.shape == (1, 0)


def test_positions_are_drawn_at_the_temperature_of_the_codes() -> None:
    """logit / T + Gumbel noise: the first position is drawn from the softmax of the confidences over T."""
    count, temperature = 4000, 2.0
    sampling = Sampling(temperature=temperature)
    everywhere = predicted(1, batch=count)
    sure = Confident(  # one code alone is possible, so that its logit is the confidence
        logits_RBmV=torch.stack([torch.full((4,), -1e9), PEAKS], dim=-1).expand(1, count, -1, -1),
        positions_Bm=everywhere.positions_Bm,
        ids_Bm=everywhere.ids_Bm,
        count=1,
    )
    choice = sure.draw(Guidance(), sampling, Noise.of(0, count), step=3, steps=4)
    found = (choice.positions == PLACES).float().mean(0)
    assert torch.allclose(found, (PEAKS / temperature).softmax(0), atol=0.025)


def test_the_noise_of_positions_is_not_that_of_codes() -> None:
    """Two streams of one step are independent; the first is that of a call without a stream."""
    noise = Noise.of(3, 1)
    first, second = noise.gumbel(2, (4000,)), noise.gumbel(2, (4000,), stream=1)
    assert torch.equal(first, noise.gumbel(2, (4000,), stream=0))
    assert abs(float(torch.corrcoef(torch.cat([first, second]))[0, 1])) < 0.05
    assert not torch.equal(second, noise.gumbel(3, (4000,), stream=1))
