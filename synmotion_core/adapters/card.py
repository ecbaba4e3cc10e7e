"""The page that an adapter has on the Hub: its README.md, front matter for machines and prose for people.

    base_model, base_model_relation: adapter    what it is for; left out for a backbone that ships with the studio
    pipeline_tag                                where the Hub lists it
    library_name: diffusers                     only where the stock pipeline of the base loads the LoRA beside it by
                                                the repository's name alone: the Hub's "Use this model"
    license, license_name, license_link         the base's, which adapters carry on
    tags                                        motion-adapter, by which `search` finds it, and others
    instance_prompt, widget                     the words as training read them, and videos beside what was asked for

People may change the text; `check_card` refuses one whose front matter no longer says what the adapter is.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from synmotion_core.adapters.file import AdapterInfo
from synmotion_core.adapters.kept import Kept
from synmotion_core.backbones import find_spec
from synmotion_core.errors import AdapterError, ConfigError
from synmotion_core.interfaces import Rewords
from synmotion_core.methods import find_method
from synmotion_core.plain_yaml import read_yaml
from synmotion_core.types import Prompt

TAG = "motion-adapter"
TAGS = (TAG, "synmotion")
_LORA_TAGS = ("lora", "template:sd-lora")
MAX_CARD = 1_000_000  # bytes; nobody reads more
MAX_FRONT = 65_536  # characters of its front matter
_PIPELINES = {"t2v": "text-to-video", "i2v": "image-to-video"}
_KNOWN_LICENCES = ("apache-2.0", "cc-by-nc-4.0")  # by the Hub's own list; others are "other", with a name
_TIED = ("base_model", "base_model_relation", "license", "license_name", "license_link", "pipeline_tag")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~-])")
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A video of the card: its file in the repository, and the words that it was asked for with."""

    file: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Travels:
    """An export for other programs that lies beside the adapter: how it is used, and how many keys it lacks.

    by_name: whether the stock pipeline of the base loads it by the repository's name alone. kept: what was measured of
    it, where somebody has (kept.py).
    """

    file: str
    usage: str
    left: int
    by_name: bool = False
    kept: Kept | None = None


def model_card(
    info: AdapterInfo, *, repo_id: str, file: str, videos: Sequence[Shown] = (), exports: Sequence[Travels] = ()
) -> str:
    """The README.md of a repository that holds the adapter `file`. Raises ConfigError for an unknown backbone."""
    from huggingface_hub import ModelCardData

    front = ModelCardData(**front_matter(info, videos, exports)).to_yaml()
    return f"---\n{front}\n---\n\n" + "\n".join(_prose(info, repo_id, file, videos, exports)) + "\n"


def front_matter(info: AdapterInfo, videos: Sequence[Shown] = (), exports: Sequence[Travels] = ()) -> dict[str, Any]:
    """The values of the card's front matter. Raises ConfigError for an unknown backbone or method, AdapterError for
    settings that its method does not know."""
    spec = find_spec(info.backbone)
    known, by_name = spec.licence in _KNOWN_LICENCES, _by_name(exports)
    values: dict[str, Any] = {
        **({"library_name": "diffusers"} if by_name else {}),
        "pipeline_tag": _PIPELINES[info.mode],
        "license": spec.licence if known else "other",
        "tags": [*TAGS, *(_LORA_TAGS if by_name else ()), spec.name],
        "instance_prompt": words_read(info),
    }
    if not known:
        values |= {"license_name": spec.licence, "license_link": spec.licence_link}
    if not spec.repo.startswith("assets:"):
        values |= {"base_model": spec.repo, "base_model_relation": "adapter"}
    if videos:
        values["widget"] = [{"text": one.words, "output": {"url": one.file}} for one in videos]
    return values


def words_read(info: AdapterInfo) -> str:
    """What the encoders read in training: the adapter's words, `plain_words`, and what its method puts beside them.

    Raises ConfigError for an unknown method, AdapterError for settings that it does not know.
    """
    entry = find_method(info.method)
    if not isinstance(entry, Rewords):
        return plain_words(info)
    try:
        settings = entry.config(**info.method_config)
    except TypeError as error:
        raise AdapterError(f"the adapter has settings that {info.method} does not know: {error}") from error
    return entry.reword(settings, Prompt(subject=info.subject, motion=info.motion)).text


def plain_words(info: AdapterInfo) -> str:
    """The words that people give: who was seen, and what they do."""
    return f"{info.subject} {info.motion}"


def check_card(text: str, info: AdapterInfo, exports: Sequence[Travels] = ()) -> None:
    """Raise ConfigError where a card that somebody changed no longer says what the adapter is, or whose licence it has.

    Also for one that is too long, for videos that lie outside the repository, and for one that says diffusers where
    none of `exports` is what diffusers would load.
    """
    if len(text.encode()) > MAX_CARD:
        raise ConfigError(f"the card has {len(text.encode())} bytes, at most {MAX_CARD} can be shown: shorten it")
    values, due = read_front_matter(text), front_matter(info)
    for key in _TIED:
        if values.get(key) != due.get(key):
            wanted = f"{key}: {due[key]}" if key in due else f"no {key}"
            raise ConfigError(f"the card's front matter must have {wanted}, as the base model asks: restore that line")
    tags = values.get("tags")
    if not isinstance(tags, list) or TAG not in tags:
        raise ConfigError(f"the card's tags must hold {TAG}: nobody finds it without")
    if values.get("library_name") == "diffusers" and not _by_name(exports):
        raise ConfigError(
            "the card says library_name: diffusers, but nothing beside the adapter is what diffusers loads by the "
            "repository's name: leave that line out, or send the LoRA for diffusers, where its pipelines load one"
        )
    for one in shown_videos(values):
        if PurePosixPath(one.file).is_absolute() or ".." in PurePosixPath(one.file).parts or ":" in one.file:
            raise ConfigError(f"the card's video {one.file!r} is not a file of the repository")


def read_front_matter(text: str) -> Mapping[str, Any]:
    """What stands between the first two lines of three dashes. Raises ConfigError where there is no mapping,
    and for aliases and merge keys."""
    import yaml

    found = re.match(r"\ufeff?---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(\r?\n|$)", text, re.DOTALL)
    if found is None:
        raise ConfigError("the card begins with its front matter, between two lines of ---: restore it")
    if len(found[1]) > MAX_FRONT:
        raise ConfigError(f"the card's front matter has {len(found[1])} characters, at most {MAX_FRONT}: shorten it")
    try:
        values = read_yaml(found[1], first_line=2)
    except ConfigError as error:
        raise ConfigError(f"the card's front matter: {error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date or a number that is none
        where = getattr(error, "problem_mark", None)
        line = "" if where is None else f", in its line {where.line + 2}"
        raise ConfigError(f"the card's front matter is no YAML{line}") from error
    if not isinstance(values, dict):
        raise ConfigError("the card's front matter is a list of NAME: VALUE lines")
    return values


def shown_videos(values: Mapping[str, Any]) -> list[Shown]:
    """The videos that front matter names, as far as it is well formed; it may come from anybody."""
    found = []
    widget = values.get("widget")
    for one in widget if isinstance(widget, list) else []:
        output = one.get("output") if isinstance(one, dict) else None
        url = output.get("url") if isinstance(output, dict) else None
        if isinstance(url, str) and isinstance(one.get("text"), str):
            found.append(Shown(file=url, words=one["text"]))
    return found


def plain(text: str) -> str:
    """Words of somebody's as Markdown shows them: no markup, no HTML, one line.

    >>> plain("a <b>red</b> [cat](x)")
    'a &lt;b&gt;red&lt;/b&gt; \\\\[cat\\\\]\\\\(x\\\\)'
    """
    line = " ".join(text.split())
    return "".join(_HTML.get(letter, letter) for letter in _MARKDOWN.sub(r"\\\1", line))


def _code(text: str) -> str:
    """The same between backticks, where nothing but they has a meaning."""
    return " ".join(text.replace("`", "'").split())


def _by_name(exports: Sequence[Travels]) -> bool:
    return any(one.by_name for one in exports)


def _prose(
    info: AdapterInfo, repo_id: str, file: str, videos: Sequence[Shown], exports: Sequence[Travels]
) -> list[str]:
    spec = find_spec(info.backbone)
    ships = spec.repo.startswith("assets:")
    base = spec.title if ships else f"[{spec.title}](https://huggingface.co/{spec.repo})"
    name = shlex.quote(PurePosixPath(file).stem)
    picture = " --image cat.png" if info.mode == "i2v" else ""
    limits = spec.knows.partition(". ")[2]  # of the licence, where it has some
    lines = [f"# “{plain(info.motion)}”, for any subject", ""]
    if videos:
        lines += ["<Gallery />", ""]
    lines += [
        f"A motion adapter for {base}: it was shown clips of {plain(info.subject)} and learnt what they do, so that "
        "other subjects can do it.",
        "",
        "## Use it",
        "",
        "With SynMotion Studio, on its page or:",
        "",
        "```",
        f"python -m synmotion_core pull {repo_id}",
        f'python -m synmotion_core generate --adapter {name} --subject "a red cat"{picture}',
        "```",
        "",
    ]
    for one in exports:
        lines += [f"`{one.file}` is its LoRA alone, {one.usage}."]
        if one.left:
            loss = "without them the motion is weaker" if one.kept is None else one.kept.words
            lines += [
                f"{one.left} tensors of the adapter, its embeddings, are not in it: other programs have no place for "
                f"them, and {loss}."
            ]
        lines += [""]
    settings = ", ".join(f"{key}={value}" for key, value in sorted(info.method_config.items()) if key != "modules")
    revision = "" if info.revision is None else f", revision `{_code(info.revision)}`"
    made = f"{info.steps} steps" + (f" on {info.clips} clips" if info.clips else "") if info.steps else "elsewhere"
    lines += [
        "## How it was made",
        "",
        f"- base: `{spec.name}`{revision}",
        f"- method: {plain(info.method)}" + (f", `{_code(settings)}`" if settings else ""),
        f"- trained: {made}, {'from first pictures' if info.mode == 'i2v' else 'from text'}",
        f"- words: {plain(info.subject)} | {plain(info.motion)}",
    ]
    read = words_read(info)
    if read != plain_words(info):
        lines += [f"- read as: {plain(read)} (SynMotion Studio puts the method's own word there by itself)"]
    if info.score is not None:
        lines += [f"- score: {info.score:.3f} by {plain(info.scored_by)}, on prompts it was not trained with"]
    lines += [
        f"- written by: {plain(info.created_with)}",
        "",
        "The clips that it was trained on are not in this repository.",
        "",
        "## Licence",
        "",
        f"The adapter carries on its base's licence, [{spec.licence}]({spec.licence_link})."
        + (f" {limits}." if limits else ""),
    ]
    return lines
