"""The checkpoints of a training, scored while it trains; the best adapter is kept.

    <folder>/scores/step-000150/*.mp4               what was scored: the files, as players see them
    <folder>/scores.json                            the scores so far, replaced whole, and a key of what they depend on
    <folder>/best/<name>-step-000150.safetensors    the adapter of the best of them

An adapter is there before its row is, and goes only after a better one's row is there, so that a kill at any moment
leaves a best that belongs to the curve. A step that a resumed training comes by again has its score already; scores of
other prompts, another rule or another run (the key) are not continued. Of equal ones the first is the best.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

from synmotion_core.clips import video
from synmotion_core.config import from_dict, to_dict
from synmotion_core.errors import ConfigError
from synmotion_core.run.yardstick import Yardstick, made_of, rank, score_of
from synmotion_core.storage import link_or_copy, replacing
from synmotion_core.types import Event, Progress, Sampled, Saved, Scored

VERSION = 1
Draw = Callable[[Path, int], Iterator[Event]]  # of (folder, step): Progress, and Sampled of each prompt in turn
Save = Callable[[Path, Scored], None]


class Scoring:
    """The scores of the run called `name`. draw makes the yardstick's videos, save writes the adapter as it is now.

    key names what scores depend on; resume takes up those in `folder`. began_anew says why they could not be.
    Raises ConfigError where they cannot be read.
    """

    def __init__(
        self,
        yardstick: Yardstick,
        folder: Path,
        name: str,
        key: str,
        *,
        draw: Draw,
        save: Save,
        resume: bool = False,
    ) -> None:
        self.yardstick, self.folder, self.name, self.key = yardstick, folder, name, key
        self._draw, self._save = draw, save
        self.rows: dict[int, Scored] = {}
        self.began_anew = ""
        if resume:
            self._read()

    @property
    def best(self) -> Scored | None:
        """The best so far."""
        return max((row for row in self.rows.values() if row.best), key=lambda row: row.step, default=None)

    def __call__(self, step: int) -> Iterator[Event]:
        """Score the adapter as it is now, after `step`. Raises Cancelled; then nothing was kept."""
        row = self.rows.get(step)
        if row is None:
            row = yield from self._measured(step)
            if row.best:
                self._save(self.path(step), row)
            self.rows[step] = row
            self._write()
        yield row
        best = self.best
        if best is not None:
            self._tidy(best)
            yield Saved(path=self.path(best.step), step=best.step, kind="best")

    def publish(self, path: Path) -> str:
        """The best adapter under its own name too; a sentence that says what it is. There must be a score."""
        best, last = self.best, self.rows[max(self.rows)]
        assert best is not None
        link_or_copy(self.path(best.step), path)
        if best == last:
            return f"the best score is the last one's, step {last.step}: {last.score:.3f} ({made_of(last)})"
        return (
            f"best at step {best.step}: {best.score:.3f} ({made_of(best)}), kept as {path.name}; "
            f"last, step {last.step}: {last.score:.3f} ({made_of(last)})"
        )

    def path(self, step: int) -> Path:
        """Of the adapter of a step, as long as it is the best."""
        return self.folder / "best" / f"{self.name}-step-{step:06d}.safetensors"

    def _measured(self, step: int) -> Generator[Event, None, Scored]:
        began, files = time.perf_counter(), []
        for event in self._draw(self.folder / "scores" / f"step-{step:06d}", step):
            if isinstance(event, Sampled):
                files.append(event.path)
            elif isinstance(event, Progress):
                yield dataclasses.replace(event, stage="score")
            else:
                yield event
        values = self.yardstick.measure([video.read(file)[0] for file in files])
        score = score_of(self.yardstick.name, values)
        row = Scored(step=step, by=self.yardstick.name, score=score, best=True, values=values)
        best = all(rank(row) > rank(other) for other in self.rows.values() if other.step < step)
        return dataclasses.replace(row, best=best, seconds=time.perf_counter() - began)

    def _tidy(self, best: Scored) -> None:
        for path in self.path(0).parent.glob("*.safetensors"):
            if path != self.path(best.step):
                path.unlink(missing_ok=True)

    def _write(self) -> None:
        rows = [to_dict(self.rows[step]) for step in sorted(self.rows)]
        text = json.dumps({"version": VERSION, "key": self.key, "scores": rows}, indent=1, allow_nan=False)
        with replacing(self.folder / "scores.json") as temporary:
            temporary.write_text(text + "\n", encoding="ascii")

    def _read(self) -> None:
        path = self.folder / "scores.json"
        if not path.exists():
            return
        try:
            values = json.loads(path.read_bytes())
            if values["version"] != VERSION:
                raise ConfigError(f"version {values['version']!r}, this one reads {VERSION}")
            rows = {row.step: row for row in (from_dict(Scored, one) for one in values["scores"])}
            same = values["key"] == self.key
        except (OSError, ValueError, TypeError, KeyError, RecursionError, ConfigError) as error:
            raise ConfigError(f"{path} cannot be read ({error}): delete it, and scores begin anew") from error
        if not same:
            self.began_anew = "the scores so far were of other prompts or settings: they begin anew"
            return
        self.rows = rows
        best = self.best
        if best is not None and not self.path(best.step).exists():
            self.rows = {}
            self.began_anew = f"{self.path(best.step)}, the best adapter so far, is gone: scores begin anew"
