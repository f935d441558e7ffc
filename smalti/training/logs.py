"""What a run writes: log.jsonl, tensorboard, and a line on the screen."""

import json
from pathlib import Path
from typing import Any

from accelerate import Accelerator


def make_accelerator(out: Path, *, cpu: bool = False) -> Accelerator:
    """Device and processes; tensorboard logs in `out` if the package is there."""
    try:
        import tensorboard  # noqa: F401

        return Accelerator(cpu=cpu, log_with="tensorboard", project_dir=out)
    except ImportError:
        return Accelerator(cpu=cpu)


class RunLog:
    """Appends to `out/log.jsonl` and tensorboard; the main process alone writes."""

    def __init__(self, out: Path, accelerator: Accelerator, *, step: int = 0) -> None:
        """`step`: where the run resumes; lines of later steps, made before a crash, are dropped."""
        self.path, self.accelerator = out / "log.jsonl", accelerator
        if accelerator.is_main_process:
            out.mkdir(parents=True, exist_ok=True)
            lines = self.path.read_text().splitlines() if step and self.path.is_file() else []
            kept = [line for line in lines if _step(line) <= step]
            self.path.write_text("".join(f"{line}\n" for line in kept))
        accelerator.init_trackers("tensorboard")

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """One line; numbers also go to tensorboard under `kind/`."""
        if not self.accelerator.is_main_process:
            return
        with self.path.open("a") as file:
            file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        numbers = {f"{kind}/{k}": v for k, v in values.items() if isinstance(v, (int, float))}
        self.accelerator.log(numbers, step=step)

    def say(self, text: str) -> None:
        """Prints at once."""
        if self.accelerator.is_main_process:
            print(text, flush=True)

    def close(self) -> None:
        """Ends the tensorboard files."""
        for tracker in self.accelerator.trackers:
            tracker.finish()


def _step(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError):
        return 1 << 62  # a line cut by a crash
