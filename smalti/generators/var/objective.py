"""Training objectives of the next-scale transformer.

VAR (arXiv 2404.02905): cross entropy of all tokens. CoDe (arXiv 2411.17787): a drafter is tuned on the first scales
alone, a refiner on the last ones, optionally towards a teacher's distribution.

Shape suffixes: B batch, L tokens, V codes, C latent channels.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.generators.base import Condition
from smalti.generators.var.model import VARGenerator
from smalti.nn.losses import Losses
from smalti.tokenizers.base import Tokenizer
from smalti.tokens import Choice


@dataclass(frozen=True, kw_only=True)
class VARObjectiveConfig:
    """What is learnt."""

    first_scale: int = 0
    """First scale that counts in the loss (a refiner's)."""
    last_scale: int | None = None
    """Last scale that counts; None = the last. Finer scales are not run (a drafter's)."""
    coarse: float = 0.0
    """Share of the steps that run only the scales before `coarse_scales`: far cheaper, and the layout of a picture,
    which is hardest to learn, is decided there."""
    coarse_scales: int = 0
    """Scales of such a step."""
    self_correction: float = 0.0
    """Largest share of an image's tokens that are replaced by the model's own draws; the scales behind them are coded
    anew to fit. So it learns to mend what it got wrong, and to look at the condition instead of the tokens alone. As
    the bitwise self-correction of Infinity (arXiv 2412.04431), with errors of the model instead of random bits."""
    self_correction_temperature: float = 1.0
    """Temperature of these draws."""
    condition_dropout: float = 0.0
    """Share of the batch trained without its condition, for data that does not bring its own share."""
    label_smoothing: float = 0.0
    """Probability spread over all codes."""
    distillation: float = 0.0
    """Share alpha of the teacher: alpha * KL(teacher || model) * T^2 + (1 - alpha) * cross entropy."""
    distillation_temperature: float = 1.0
    """Temperature T of both distributions in the distillation term."""


class VARObjective(nn.Module):
    """Cross entropy, or distillation, of the tokens of a range of scales."""

    def __init__(
        self,
        model: VARGenerator,
        tokenizer: Tokenizer,
        config: VARObjectiveConfig,
        *,
        teacher: VARGenerator | None = None,
    ) -> None:
        """`tokenizer` makes the maps the model is fed; it and the teacher stay frozen."""
        super().__init__()
        if config.distillation and teacher is None:
            raise ValueError(f"distillation is {config.distillation}: pass a teacher, or set it to 0")
        self.model, self.config = model, config
        self._frozen = (tokenizer, teacher)  # in a tuple: not a part of the trained module
        self.progress = 0.0
        """Share of the training that is over; the trainer sets it."""
        starts = model.layout.starts
        last = len(starts) - 1 if config.last_scale is None else config.last_scale + 1
        self.scales, self.begin = last, starts[config.first_scale]
        if config.coarse and not config.first_scale < config.coarse_scales < last:
            raise ValueError(
                f"coarse_scales must lie between first_scale {config.first_scale} and the {last} scales of a whole "
                f"step, got {config.coarse_scales}"
            )

    def forward(self, batch: tuple[Tensor, Condition], step: int, rng: torch.Generator) -> Losses:
        """Losses of (ids int64 [B, L], condition); `rng` draws the dropped conditions."""
        ids_BL, condition = batch
        if self.config.condition_dropout and self.training:
            condition = self._drop(condition, rng)
        scales = self._scales(step)
        if self.config.self_correction and self.training:
            ids_BL, inputs_BnC = self.corrected(ids_BL, condition, scales, rng)
        else:
            inputs_BnC = self.inputs(ids_BL, scales)
        logits_BLV = self.model.logits(inputs_BnC, condition)[:, self.begin :]
        target_BL = ids_BL[:, self.begin : self.model.layout.starts[scales]]
        loss = F.cross_entropy(
            logits_BLV.flatten(0, 1), target_BL.flatten(), label_smoothing=self.config.label_smoothing
        )
        parts = {"cross_entropy": loss, "accuracy": (logits_BLV.argmax(-1) == target_BL).float().mean()}
        if self.config.distillation:
            parts["distillation"] = self._distill(logits_BLV, inputs_BnC, condition)
            loss = self.config.distillation * parts["distillation"] + (1 - self.config.distillation) * loss
        return Losses(total=loss, parts={k: v.detach() for k, v in parts.items()})

    def _scales(self, step: int) -> int:
        """How many scales are run; by the step alone, so that all processes of a run agree."""
        golden = 0.6180339887498949  # its multiples spread evenly over [0, 1)
        coarse = self.training and (step * golden) % 1 < self.config.coarse
        return self.config.coarse_scales if coarse else self.scales

    @torch.no_grad()
    def inputs(self, ids_BL: Tensor, scales: int) -> Tensor | None:
        """[B, n, C]: what the model is fed for the scales behind the first, in float32."""
        tokenizer, _ = self._frozen
        with torch.autocast(ids_BL.device.type, enabled=False):
            return tokenizer.feedback(len(ids_BL)).push_prefix(ids_BL, scales - 1)

    @torch.no_grad()
    def corrected(
        self, ids_BL: Tensor, condition: Condition, scales: int, rng: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """Targets [B, n] and inputs [B, n - 1, C] of `scales` scales some of whose tokens the model draws itself.

        What is drawn stays out of the targets, which code what the maps so far leave of the image. `rng` is on the
        model's device.
        """
        tokenizer, _ = self._frozen
        device, starts = ids_BL.device, self.model.layout.starts

        share_B1 = torch.rand(len(ids_BL), 1, generator=rng, device=device) * self.config.self_correction
        whole = tokenizer.feedback(len(ids_BL))
        whole.push_prefix(ids_BL, len(starts) - 1)
        feedback = tokenizer.feedback(len(ids_BL))
        state = self.model.begin(condition, feedback=feedback)
        changed_B1 = torch.zeros(len(ids_BL), 1, dtype=torch.bool, device=device)
        targets = []
        for k in range(scales):
            known_Bn = ids_BL[:, starts[k] : starts[k + 1]]
            targets.append(torch.where(changed_B1, feedback.renew(known_Bn, whole.reached()), known_Bn))
            if k == scales - 1:
                break
            logits_BnV = self.model.predict(state).logits_RBnV[0] / self.config.self_correction_temperature
            drawn_Bn = torch.multinomial(logits_BnV.softmax(-1).flatten(0, 1), 1, generator=rng).view_as(known_Bn)
            replaced_Bn = torch.rand(known_Bn.shape, generator=rng, device=device) < share_B1
            wrong_Bn = replaced_Bn & (drawn_Bn != targets[-1])
            changed_B1 = changed_B1 | wrong_Bn.any(1, keepdim=True)
            self.model.accept(state, Choice(ids=torch.where(wrong_Bn, drawn_Bn, targets[-1])))
        return torch.cat(targets, dim=1), feedback.history()

    def _drop(self, condition: Condition, rng: torch.Generator) -> Condition:
        drop_B = torch.rand(len(condition), generator=rng, device=rng.device) < self.config.condition_dropout
        drop_B = drop_B.to(condition.classes.device)
        mask = None if condition.text_mask is None else condition.text_mask & ~drop_B[:, None]
        classes = torch.where(drop_B, -1, condition.classes)
        return Condition(classes=classes, text=condition.text, text_mask=mask)

    def _distill(self, logits_BLV: Tensor, inputs_BnC: Tensor | None, condition: Condition) -> Tensor:
        """KL(softmax(teacher / T) || softmax(model / T)) * T^2, mean over tokens."""
        _, teacher = self._frozen
        assert teacher is not None
        temperature = self.config.distillation_temperature
        with torch.no_grad():
            aim = F.log_softmax(teacher.logits(inputs_BnC, condition)[:, self.begin :] / temperature, dim=-1)
        ours = F.log_softmax(logits_BLV / temperature, dim=-1)
        flat = (ours.flatten(0, 1), aim.flatten(0, 1))
        return F.kl_div(*flat, reduction="batchmean", log_target=True) * temperature**2
