"""Whether a run has room on the GPU that is here: before anything is fetched or loaded, and once it had none.

What a run needs is estimated (memory.py) with a stated error. Above what is free by less than that it may fit, which
is a warning; above it by more it cannot.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from synmotion_core.backbones import find_spec
from synmotion_core.config import GenerateRun, TrainRun
from synmotion_core.errors import ConfigError, UserInputError
from synmotion_core.planning import machine
from synmotion_core.planning.ladder import Rung, ladder
from synmotion_core.planning.memory import ERROR, Needs, measured, needs
from synmotion_core.planning.work import work_of
from synmotion_core.training import together

R = TypeVar("R", bound=TrainRun | GenerateRun)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage(Generic[R]):
    """A run whose estimate is above the GPU's memory. here: GiB that it may use; first: the first rung that fits."""

    run: R
    needs: Needs
    here: float
    first: Rung[R] | None

    @property
    def least(self) -> float:
        """GiB, at the lower end of the estimate's error."""
        return (1 - ERROR) * self.needs.peak

    @property
    def certain(self) -> bool:
        """Whether even that is more than there is."""
        return self.least > self.here

    @property
    def numbers(self) -> str:
        """Both, in words."""
        stage = max(self.needs.stages, key=lambda name: self.needs.stages[name])
        what = "this training" if isinstance(self.run, TrainRun) else "this generation"
        return (
            f"{what} needs about {self.needs.peak:.1f} GiB of GPU memory ({stage} takes most; at least "
            f"{self.least:.1f}, for the estimate is within {ERROR:.0%}), and {self.here:.1f} GiB are free here"
        ).replace("%", " %")

    @property
    def way(self) -> str:
        """What to do in a terminal."""
        if self.first is None:
            return f"nothing that is known makes it fit, so take another backbone than {self.run.backbone}"
        options, peak = " ".join(self.first.options), self.first.needs.peak
        return f"--fit, without a number, takes {options} here ({peak:.1f} GiB; {'; '.join(self.first.prices)})"


def shortage(run: R) -> Shortage[R] | None:
    """None where the run fits, where there is no CUDA GPU, and for a row that has not been measured.

    Of several processes each takes its share of a batch.
    """
    if measured(find_spec(run.backbone).name) is None:
        return None
    here = machine.card_gib()
    if here is None:
        return None
    found = _needs(_share(run))
    if found is None or found.peak <= here:
        return None
    first = next((rung for rung in ladder(run) if rung.needs.peak <= here), None)
    return Shortage(run=run, needs=found, here=here, first=first)


def ran_out(error: BaseException) -> bool:
    """Whether it is the GPU's memory that was not enough; asks nothing of torch, which may not be loaded."""
    if isinstance(error, RuntimeError) and "CUDA" in str(error) and "out of memory" in str(error):
        return True
    return type(error).__name__ == "OutOfMemoryError"


def too_little(run: TrainRun | GenerateRun | None = None) -> str:
    """What to read after that, with what is known of the numbers."""
    known = []
    with contextlib.suppress(UserInputError, RuntimeError):  # the device may be in no state to be asked
        known += [f"it had taken {taken:.1f} GiB"] if (taken := _taken()) else []
        found = None if run is None else _needs(_share(run))
        known += [] if found is None else [f"the estimate was {found.peak:.1f} GiB"]
        here = machine.card_gib()
        known += [] if here is None else [f"{here:.1f} GiB are free for it"]
    numbers = f" ({', '.join(known)})" if known else ""
    return (
        f"the GPU's memory was not enough for this run{numbers}: --fit makes it fit in a terminal, “Memory and size” "
        "on the page; what other programs hold on the GPU counts, too"
    )


@contextlib.contextmanager
def told(run: TrainRun | GenerateRun) -> Iterator[None]:
    """Within, memory that is not enough is a ConfigError in words."""
    try:
        yield
    except Exception as error:
        if not ran_out(error):
            raise
        raise ConfigError(too_little(run)) from error


def _share(run: R) -> R:
    """What one of the processes does."""
    size = together.asked().size
    if size == 1 or not isinstance(run, TrainRun):
        return run
    batch = run.train.batch_size or find_spec(run.backbone).batch_size
    own = dataclasses.replace(run.train, batch_size=max(1, batch // size))
    return dataclasses.replace(run, train=own)  # type: ignore[return-value]


def _needs(run: TrainRun | GenerateRun) -> Needs | None:
    return needs(find_spec(run.backbone), run.precision, work_of(run))


def _taken() -> float:
    """GiB that this process has held at most; 0 where no GPU was used."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return 0.0
    return torch.cuda.max_memory_reserved() / machine.GIB
