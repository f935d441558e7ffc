"""The training loop: one objective, one data function, one budget.

Nothing in a step waits for the device; numbers are read when a log line is due. Every random number is a function of
(seed, step), so a run that resumes goes on bit for bit.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from smalti.data.counter import generator_at, seed_of
from smalti.nn.losses import Losses
from smalti.training import checkpoint
from smalti.training.checkpoint import Place
from smalti.training.ema import EMA
from smalti.training.logs import RunLog
from smalti.training.optim import adamw, guarded_step, muon, muon_parameters, rate_factor, set_rate
from smalti.training.recipe import TrainingConfig

MAX_SKIPPED = 10


class Objective(Protocol):
    """What a family's objective is: a module that holds `model`, and maybe `discriminator` and `helpers`.

    `helpers` is a module that is trained along and left behind, such as heads toward a teacher's features.
    """

    model: nn.Module
    progress: float
    """Share of the budget that is used up; the trainer sets it before every step."""

    def __call__(self, batch: Any, step: int, rng: torch.Generator) -> Losses:
        """Losses of one batch; every draw comes from `rng`."""
        ...


class Data(Protocol):
    """Training batches as a function of where the run is."""

    def __call__(self, call: int, size: int, rank: int) -> Any:
        """Batch number `call` (step x micro-batches + micro-batch) with `size` images for process `rank`."""
        ...


Monitor = Callable[[int], dict[str, float]]
"""Validation and sample sheets at a step; called with averaged weights, in evaluation mode, without gradients."""


class Trainer:
    """Trains `objective.model` until the budget is used up."""

    def __init__(
        self,
        objective: nn.Module,
        data: Data,
        config: TrainingConfig,
        *,
        accelerator: Accelerator,
        out: Path,
        recipe: Mapping[str, Any],
        monitor: Monitor | None = None,
    ) -> None:
        """`recipe`: plain data stored in checkpoints, compared on resuming."""
        self.config, self.data, self.monitor, self.out = config, data, monitor, Path(out)
        self.accelerator, self.recipe = accelerator, dict(recipe)
        self.device = accelerator.device
        self.objective: Any = objective.to(self.device)
        if config.channels_last:
            objective.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model: nn.Module = self.objective.model
        self.discriminator: nn.Module | None = getattr(objective, "discriminator", None)
        self.ema = EMA(self.model, config.ema)
        matrices = muon_parameters(self.model, config)
        self.optimizers: dict[str, torch.optim.Optimizer] = {"optimizer": adamw(self.model, config, leave_out=matrices)}
        if matrices:
            self.optimizers["muon"] = muon(matrices, config)
        helpers: nn.Module | None = getattr(objective, "helpers", None)
        if helpers is not None:
            self.optimizers["helpers"] = adamw(helpers, config)
        self._main = list(self.optimizers.values())
        if self.discriminator is not None:
            if accelerator.num_processes > 1:
                raise ValueError("the adversarial term trains in one process: start without torchrun, or weigh it 0")
            rate = config.discriminator_learning_rate
            self.optimizers["discriminator"] = adamw(self.discriminator, config, learning_rate=rate)
        trained = [*self.model.parameters(), *(helpers.parameters() if helpers is not None else ())]
        self.parameters = [p for p in trained if p.requires_grad]
        self.bf16 = config.bf16 and _computes_bfloat16(self.device)
        self.wrapped = accelerator.prepare_model(objective)
        self.place, self.progress = Place(), 0.0
        self._resumed, self._began = 0.0, 0
        self._start = self._saved = time.monotonic()
        self._logged = (self._start, 0)
        self.compiled = _compile(self.model, config.compile)
        self._since_log = _Means()
        self.last_validation: dict[str, float] = {}
        """Of the averaged weights, rounded."""

    # the run

    def run(self, *, resume: bool = False) -> Place:
        """Trains, evaluates, saves; returns where the run ended. `resume` goes on from the checkpoint in `out`.

        Errors: FloatingPointError after 10 steps with non-finite gradients; FileNotFoundError if there is nothing to
        resume. An interrupt saves a checkpoint first.
        """
        config = self.config
        if resume:
            self._restore()
        self.log = RunLog(self.out, self.accelerator, step=self.place.step)
        self._announce(resume)
        self.objective.train()
        self._start, self._resumed = time.monotonic(), self.place.elapsed
        self._logged, self._saved = (self._start, self.place.step), self._start
        try:
            while not self._used_up():
                self._step()
                if self.place.step % config.log_every == 0:
                    self._log()
                if self.progress >= (self.place.evaluated + 1) / (config.evaluations + 1) and self.progress < 1:
                    self._evaluate()
                elif time.monotonic() - self._saved > 60 * config.checkpoint_minutes:
                    self._save()
        except KeyboardInterrupt:
            self._save()
            self.log.say(f"interrupted at step {self.place.step}; go on with --resume")
            raise
        self._log()
        self._evaluate()
        self.log.close()
        return self.place

    def _announce(self, resume: bool) -> None:
        count = sum(p.numel() for p in self.parameters)
        where = f"resumed from step {self.place.step}, {self.place.elapsed:.0f} s" if resume else "starts"
        self.log.say(
            f"{self.recipe.get('name', self.out.name)} {where}: {count / 1e6:.2f} M parameters on {self.device}, "
            f"batch {self.config.batch} x {self.accelerator.num_processes}, budget {self.config.minutes or '-'} min, "
            f"{self.config.steps or '-'} steps"
        )
        if self.config.bf16 and not self.bf16:
            self.log.say("this CPU only emulates bfloat16, tens of times slower: float32 instead")

    def _used_up(self) -> bool:
        """Reads the clock and sets `progress`; the processes of one run agree on the first one's clock."""
        config = self.config
        elapsed = self._resumed + time.monotonic() - self._start
        shares = [self.place.step / config.steps] if config.steps else []
        if config.minutes:
            if self.accelerator.num_processes > 1:
                elapsed = float(_from_first(torch.tensor(elapsed, device=self.device)))
            shares.append(elapsed / (60 * config.minutes))
        self.place = replace(self.place, elapsed=elapsed)
        self.progress = self.objective.progress = min(max(shares), 1.0)
        return self.progress >= 1

    # one step

    def _step(self) -> None:
        step, config = self.place.step, self.config
        set_rate(self.optimizers.values(), rate_factor(config, step, self.progress))
        try:
            parts = self._gradients()
        except Exception as error:
            if not self.compiled or step != self._began:
                raise
            warnings.warn(f"torch.compile failed ({type(error).__name__}: {error}); goes on without", stacklevel=2)
            _uncompile(self.compiled)
            self.compiled = []
            for optimizer in self.optimizers.values():
                optimizer.zero_grad(set_to_none=True)
            parts = self._gradients()
        norm, bad = guarded_step(self._main, self.parameters, config.clip)
        if self.discriminator is not None and "discriminator" in parts:
            guarded_step([self.optimizers["discriminator"]], list(self.discriminator.parameters()), config.clip)
        self.ema.update(step)
        rng = generator_at(config.seed, "after", step, device=self.device)
        after = getattr(self.objective, "after_step", None)
        extra = after(step, rng) if after is not None else {}
        if extra:
            self.log.write("event", step + 1, extra)
        self._since_log.add({**parts, "gradient_norm": norm}, bad)
        self.place = replace(self.place, step=step + 1)

    def _gradients(self) -> dict[str, Tensor]:
        """Gradients of all micro-batches; returns the mean of each part of the loss, on the device."""
        config, step, rank = self.config, self.place.step, self.accelerator.process_index
        means: dict[str, Tensor] = {}
        for m in range(config.micro_batches):
            call = step * config.micro_batches + m
            torch.manual_seed(seed_of(config.seed, "step", call, rank))
            rng = generator_at(config.seed, "objective", call, rank, device=self.device)
            batch = self.data(call, config.batch // config.micro_batches, rank)
            last = m == config.micro_batches - 1
            with self._sync(last), _attention(self.device):
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                    losses: Losses = self.wrapped(batch, step, rng)
                only = None if self.discriminator is None else self.parameters
                (losses.total / config.micro_batches).backward(inputs=only)
                self._adversarial(losses, means)
            for name, value in {"loss": losses.total.detach(), **losses.parts}.items():
                means[name] = means.get(name, 0) + value.float() / config.micro_batches
        return means

    def _adversarial(self, losses: Losses, means: dict[str, Tensor]) -> None:
        """The discriminator's gradients come from its own loss alone."""
        if self.discriminator is not None and losses.adversarial is not None:
            (losses.adversarial / self.config.micro_batches).backward(inputs=list(self.discriminator.parameters()))
            means["discriminator"] = (
                means.get("discriminator", 0) + losses.adversarial.detach() / self.config.micro_batches
            )

    @contextmanager
    def _sync(self, last: bool) -> Iterator[None]:
        """Processes exchange gradients in the last micro-batch only."""
        if last or self.accelerator.num_processes == 1:
            yield
        else:
            with self.accelerator.no_sync(self.wrapped):
                yield

    # in between

    def _log(self) -> None:
        if not self._since_log.count:
            return
        now, (then, step) = time.monotonic(), self._logged
        values, skipped = self._since_log.read()
        self._since_log = _Means()
        total = self.place.skipped + skipped
        self.place = replace(self.place, skipped=total)
        rate = self.optimizers["optimizer"].param_groups[0]["lr"]
        images = (self.place.step - step) * self.config.batch * self.accelerator.num_processes
        speed = images / max(now - then, 1e-9)
        self._logged = (now, self.place.step)
        facts = {"learning_rate": rate, "images_per_second": speed, "elapsed": self.place.elapsed, "skipped": total}
        self.log.write("train", self.place.step, {**values, **facts})
        shown = "  ".join(f"{k} {v:.4g}" for k, v in values.items())
        self.log.say(f"step {self.place.step:6d}  {self.progress:6.1%}  {speed:7.0f} img/s  lr {rate:.2e}  {shown}")
        if total >= MAX_SKIPPED:
            raise FloatingPointError(
                f"{total} steps had non-finite gradients and were left out: lower the learning rate, or train in "
                f"float32; the last checkpoint is {self.out / checkpoint.NAME}"
            )

    def _evaluate(self) -> None:
        """Validation and sheets with averaged weights, then a checkpoint."""
        done = max(int(self.progress * (self.config.evaluations + 1)), self.place.evaluated + 1)
        self.place = replace(self.place, evaluated=done)
        if self.monitor is not None and self.accelerator.is_main_process:
            start = time.monotonic()
            with self.averaged():
                values = self.monitor(self.place.step)
            self.last_validation = {name: round(value, 4) for name, value in values.items()}
            self.log.write("validation", self.place.step, {**values, "seconds": time.monotonic() - start})
            self.log.say("validation  " + "  ".join(f"{k} {v:.4g}" for k, v in values.items()))
        self._save()
        self.accelerator.wait_for_everyone()
        self._logged = (time.monotonic(), self.place.step)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the model holds the averaged weights, evaluates, and is not compiled (its batches differ)."""
        self.objective.eval()
        _uncompile(self.compiled)
        with self.ema.swapped(), torch.no_grad():
            yield
        _recompile(self.compiled)
        self.objective.train()

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            elapsed = self._resumed + time.monotonic() - self._start
            self.place = replace(self.place, elapsed=elapsed)
            checkpoint.save(
                self.out / checkpoint.NAME,
                module=self.objective,
                ema=self.ema,
                optimizers=self.optimizers,
                place=self.place,
                recipe=self.recipe,
            )
        self._saved = time.monotonic()

    def _restore(self) -> None:
        path = self.out / checkpoint.NAME
        if not path.is_file():
            raise FileNotFoundError(f"nothing to resume: there is no {path}; leave out --resume to start")
        self.place = checkpoint.restore(
            path, module=self.objective, ema=self.ema, optimizers=self.optimizers, recipe=self.recipe
        )
        self._began = self.place.step


class _Means:
    """Means on the device, read once per log line; non-finite values do not spoil them."""

    def __init__(self) -> None:
        self.count = 0
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, Tensor] = {}
        self.bad: Tensor | None = None

    def add(self, values: Mapping[str, Tensor], bad: Tensor) -> None:
        names = list(values)
        stacked = torch.stack([values[n].float().reshape(()) for n in names])
        fine = torch.isfinite(stacked)
        key = "|".join(names)  # the parts of a loss may change during a run
        self.sums[key] = self.sums.get(key, 0) + torch.where(fine, stacked, 0)
        self.counts[key] = self.counts.get(key, 0) + fine.float()
        self.bad = bad if self.bad is None else self.bad + bad
        self.count += 1

    def read(self) -> tuple[dict[str, float], int]:
        """Means since the last reading, and the number of steps left out."""
        totals: dict[str, tuple[float, float]] = {}
        for key, sums in self.sums.items():
            for name, a, n in zip(key.split("|"), sums.tolist(), self.counts[key].tolist(), strict=True):
                old = totals.get(name, (0.0, 0.0))
                totals[name] = (old[0] + a, old[1] + n)
        means = {name: a / n if n else float("nan") for name, (a, n) in totals.items()}
        return means, int(self.bad.item()) if self.bad is not None else 0


def _computes_bfloat16(device: torch.device) -> bool:
    """Whether a device has bfloat16 kernels; CPUs without AVX-512 emulate it, convolutions some 40 times slower."""
    return device.type != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _attention(device: torch.device) -> AbstractContextManager[Any]:
    """Plain attention on the CPU: with about a hundred tokens its backward pass is several times faster there."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def _from_first(value: Tensor) -> Tensor:
    torch.distributed.broadcast(value, 0)
    return value


def _compile(model: nn.Module, names: tuple[str, ...]) -> list[nn.Module]:
    """Compiles submodules in place, so that their names in the state dict stay."""
    modules: list[nn.Module] = []
    for name in names:
        module = model.get_submodule(name)
        modules += list(module) if isinstance(module, nn.ModuleList) else [module]
    _recompile(modules)
    return modules


def _recompile(modules: list[nn.Module]) -> None:
    for module in modules:
        kept = getattr(module, "_compiled_for_training", None)
        if kept is None:
            module.compile()
        else:
            module._compiled_call_impl = kept


def _uncompile(modules: list[nn.Module]) -> None:
    for module in modules:
        module.__dict__["_compiled_for_training"] = module._compiled_call_impl
        module._compiled_call_impl = None
