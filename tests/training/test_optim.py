"""The parts of the trainer: schedules over steps and time, averaged weights, the step that leaves bad gradients out."""

import json
import math
import time

import pytest
import torch
from torch import nn

from smalti.nn.losses import Losses
from smalti.training.ema import EMA
from smalti.training.logs import make_accelerator
from smalti.training.optim import adamw, guarded_step, muon, muon_parameters, rate_factor
from smalti.training.recipe import TrainingConfig
from smalti.training.trainer import Trainer


def config(**changes) -> TrainingConfig:
    base = {"steps": 10, "batch": 4, "warmup": 0, "log_every": 1, "evaluations": 0, "learning_rate": 0.05}
    return TrainingConfig(**{**base, **changes})


class Fit(nn.Module):
    """Fits a line; `poison` makes the loss of some steps infinite."""

    def __init__(self, poison=()):
        super().__init__()
        self.model = nn.Linear(3, 1)
        self.poison, self.progress, self.seen = set(poison), 0.0, []

    def forward(self, batch, step, rng):
        self.seen.append(self.progress)
        loss = (self.model(batch) - batch.sum(1, keepdim=True)).square().mean()
        if step in self.poison:
            loss = loss * torch.tensor(float("inf"))
        return Losses(total=loss, parts={"error": loss.detach()})


def points(call, size, rank):
    return torch.randn(size, 3, generator=torch.Generator().manual_seed(call))


def trainer(tmp_path, objective, settings, **options) -> Trainer:
    accelerator = make_accelerator(tmp_path, cpu=True)
    return Trainer(
        objective, points, settings, accelerator=accelerator, out=tmp_path, recipe={"name": "fit"}, **options
    )


def log_of(tmp_path, kind="train"):
    lines = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == kind]


def test_cosine_schedule():
    settings = config(schedule="cosine", final=0.1, warmup=4)
    assert rate_factor(settings, 0, 0.0) == pytest.approx(0.25)
    assert rate_factor(settings, 99, 0.0) == pytest.approx(1.0)
    assert rate_factor(settings, 99, 0.5) == pytest.approx(0.55)
    assert rate_factor(settings, 99, 1.0) == pytest.approx(0.1)


def test_linear_schedule_holds_and_falls():
    settings = config(schedule="linear", hold=0.4, final=0.0)
    assert [rate_factor(settings, 0, p) for p in (0.0, 0.4, 0.7, 1.0)] == pytest.approx([1, 1, 0.5, 0])


def test_time_is_a_budget(tmp_path):
    trainer(tmp_path / "first", Fit(), config(steps=1)).run()  # the first step of a process imports a lot
    fit, start = Fit(), time.monotonic()
    place = trainer(tmp_path, fit, config(steps=None, minutes=1 / 60, log_every=1000)).run()
    assert 1.0 <= time.monotonic() - start < 30
    assert place.step > 1
    assert fit.seen == sorted(fit.seen)
    assert 0.5 < fit.seen[-1] < 1
    assert place.elapsed >= 1


def test_resumed_time_counts(tmp_path):
    settings = config(steps=3)
    place = trainer(tmp_path, Fit(), settings).run()
    more = trainer(tmp_path, Fit(), config(steps=6)).run(resume=True)
    assert more.step == 6
    assert more.elapsed > place.elapsed


def test_a_budget_is_needed():
    with pytest.raises(ValueError, match=r"training\.minutes or training\.steps"):
        TrainingConfig()
    with pytest.raises(ValueError, match="micro_batches"):
        config(batch=5, micro_batches=2)


def test_ema_is_the_average_it_says():
    model = nn.Linear(2, 2, bias=False)
    ema, expected = EMA(model, 0.9), model.weight.detach().clone()
    for step in range(30):
        with torch.no_grad():
            model.weight.add_(1.0)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight
        ema.update(step)
    torch.testing.assert_close(ema.averages["weight"], expected.detach())
    now = model.weight.detach().clone()
    with ema.swapped():
        torch.testing.assert_close(model.weight, nn.Parameter(expected))
    assert torch.equal(model.weight, now)


def test_only_matrices_decay():
    model = nn.ModuleDict({"a": nn.Linear(3, 3), "codebook": nn.Embedding(4, 2)})
    groups = adamw(model, config(weight_decay=0.1)).param_groups
    assert [(g["weight_decay"], len(g["params"])) for g in groups] == [(0.1, 1), (0.0, 2)]


def test_bad_gradients_leave_everything_as_it_was():
    model = nn.Linear(2, 1)
    optimizer = adamw(model, config(weight_decay=0.1))
    for value, bad in ((1.0, 0.0), (math.nan, 1.0), (1.0, 0.0)):
        before = [p.detach().clone() for p in model.parameters()]
        for p in model.parameters():
            p.grad = torch.full_like(p, value)
        _, flag = guarded_step([optimizer], list(model.parameters()), 1.0)
        assert float(flag) == bad
        same = [torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
        assert all(same) if bad else not any(same)
    assert all(float(state["step"]) == 2 for state in optimizer.state.values())


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
def test_muon_takes_the_named_matrices():
    model = nn.ModuleDict({"up": nn.Linear(4, 4), "head": nn.Linear(4, 2)})
    settings = config(muon=("up",), muon_learning_rate=0.1)
    matrices = muon_parameters(model, settings)
    assert [m is model["up"].weight for m in matrices] == [True]
    adam = adamw(model, settings, leave_out=matrices)
    assert all(p is not matrices[0] for g in adam.param_groups for p in g["params"])
    matrices[0].grad = torch.full_like(matrices[0], math.inf)
    before = matrices[0].detach().clone()
    guarded_step([muon(matrices, settings)], matrices, 1.0)
    assert torch.equal(matrices[0], before)


def test_skipped_steps_are_counted_and_ten_stop_the_run(tmp_path):
    place = trainer(tmp_path, Fit(poison=(2, 5)), config()).run()
    assert place.skipped == 2
    assert [line["skipped"] for line in log_of(tmp_path)][-1] == 2
    with pytest.raises(FloatingPointError, match="10 steps had non-finite gradients"):
        trainer(tmp_path / "more", Fit(poison=range(100)), config(steps=50)).run()


def test_micro_batches_add_up(tmp_path):
    """The gradient of a batch in parts is that of the whole, if the parts are the same points."""
    whole, parts = Fit(), Fit()
    parts.load_state_dict(whole.state_dict())

    def halves(call, size, rank):
        return points(call // 2, 2 * size, rank)[size * (call % 2) :][:size]

    trainer(tmp_path / "a", whole, config(steps=5)).run()
    split = trainer(tmp_path / "b", parts, config(steps=5, micro_batches=2))
    split.data = halves
    split.run()
    torch.testing.assert_close(whole.model.weight, parts.model.weight)


def test_evaluations_are_spread_over_the_budget_with_averaged_weights(tmp_path):
    fit, seen = Fit(), []

    def monitor(step):
        seen.append((step, fit.model.training, torch.is_grad_enabled()))
        return {"at": float(step)}

    made = trainer(tmp_path, fit, config(steps=9, evaluations=2), monitor=monitor)
    made.run()
    assert seen == [(4, False, False), (7, False, False), (9, False, False)]
    assert made.last_validation == {"at": 9.0}
    assert fit.training


def test_a_broken_compile_only_warns(tmp_path, monkeypatch):
    def broken(self):
        def fail(*args, **kwargs):
            raise RuntimeError("no compiler here")

        self._compiled_call_impl = fail

    monkeypatch.setattr(nn.Module, "compile", broken)
    fit = Fit()
    fit.model = nn.Sequential(nn.Linear(3, 1))
    with pytest.warns(UserWarning, match="goes on without"):
        place = trainer(tmp_path, fit, config(compile=("0",))).run()
    assert place.step == 10


class Painter(nn.Module):
    """A generator of numbers against a discriminator."""

    def __init__(self):
        super().__init__()
        self.model, self.discriminator, self.progress = nn.Linear(3, 3), nn.Linear(3, 1), 0.0

    def forward(self, batch, step, rng):
        made = self.model(batch)
        real, fake = self.discriminator(batch), self.discriminator(made.detach())
        adversarial = (torch.relu(1 - real) + torch.relu(1 + fake)).mean() if self.progress >= 0.5 else None
        return Losses(total=-self.discriminator(made).mean(), adversarial=adversarial)


def test_discriminator_learns_from_its_own_loss_only(tmp_path):
    painter = Painter()
    start = painter.discriminator.weight.detach().clone()
    made = trainer(tmp_path, painter, config(steps=10, micro_batches=2))
    run_until(made, 5)
    assert torch.equal(painter.discriminator.weight, start)  # its loss has not begun
    made.progress = painter.progress = 0.5
    made._gradients()
    got = painter.discriminator.weight.grad.clone()
    painter.zero_grad()
    for call in (10, 11):
        (painter(points(call, 2, 0), 5, torch.Generator()).adversarial / 2).backward()
    torch.testing.assert_close(got, painter.discriminator.weight.grad)
    run_until(made, 10)
    assert not torch.equal(painter.discriminator.weight, start)


def run_until(made: Trainer, step: int) -> None:
    while made.place.step < step:
        made.progress = made.objective.progress = made.place.step / 10
        made._step()
