"""This studio on a Hugging Face Space: what leaves is sources.py's list, as one commit, private unless asked.

A Space that is there is written over only where it is this studio's (its package and its app.py) or holds nothing but
what the Hub makes; of an earlier deploy, files that are gone here are deleted in the same commit. Nothing else there
is touched, and no secret is ever set.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass

from synmotion_core.errors import ConfigError, HubError, UserInputError, unknown
from synmotion_core.hosting.sources import Sources, could_be
from synmotion_core.hub_errors import LOG_IN, check_repo_id, told
from synmotion_core.wire import Watch, commit_of, send

_MADE_BY_HUB = {".gitattributes", "README.md"}
_OURS = {"app.py", "synmotion_core/__init__.py"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A Space as it is before a deploy: its commit ("" where it is not there) and the files of it that will go."""

    repo_id: str
    private: bool
    commit: str = ""
    gone: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """A studio that is there: its page, its commit, what went; `problem` is why the hardware was refused, if it was."""

    url: str
    commit: str
    files: int
    removed: tuple[str, ...] = ()
    hardware: str = ""
    problem: str = ""


def check_hardware(name: str) -> None:
    """Raises ConfigError for hardware that the client knows no Space of."""
    from huggingface_hub import SpaceHardware

    known = [one.value for one in SpaceHardware]
    if name not in known:
        raise unknown("hardware", name, known)


class Spaces:
    """One person's Spaces. token as for adapters.hub.Hub; it is never written anywhere."""

    def __init__(self, *, token: str | bool | None = None, endpoint: str | None = None) -> None:
        from huggingface_hub import HfApi

        self._api = HfApi(endpoint=endpoint or os.environ.get("HF_ENDPOINT") or None, token=token)

    def look(self, repo_id: str, sources: Sources, *, private: bool = True, replace: bool = False) -> Place:
        """What a deploy there would do; changes nothing. Raises ConfigError for a Space of another kind that is not to
        be replaced, and for one of the other visibility; HubError."""
        from huggingface_hub.errors import RepositoryNotFoundError

        check_repo_id(repo_id)
        with told(repo_id):
            if self._api.token is False:
                raise HubError(f"{repo_id}: {LOG_IN}")
            self._api.whoami()
            try:
                found = self._api.space_info(repo_id)
            except RepositoryNotFoundError:
                return Place(repo_id=repo_id, private=private)
        there = {str(one.rfilename) for one in found.siblings or ()}
        ours = there >= _OURS and found.sdk == "gradio"
        mine = {file.name for file in sources.files}
        if not ours and there - _MADE_BY_HUB and not replace:
            some = sorted(there - _MADE_BY_HUB)
            more = f" and {len(some) - 5} more" if len(some) > 5 else ""
            raise ConfigError(
                f"{repo_id} is a Space already and not one of this studio (it holds {', '.join(some[:5])}{more}): "
                "choose another name, or say --replace, which deletes what it holds"
            )
        if bool(found.private) != private:
            now, wanted = ("private", "public") if found.private else ("public", "private")
            way = "leave --public out" if found.private else "say --public"
            raise ConfigError(f"{repo_id} is there already and is {now}, not {wanted}: {way}, or change it on its page")
        gone = {name for name in there - mine - {".gitattributes"} if could_be(name) or not ours}
        return Place(repo_id=repo_id, private=private, commit=commit_of(found.sha, repo_id), gone=tuple(sorted(gone)))

    def deploy(
        self,
        sources: Sources,
        place: Place,
        *,
        hardware: str = "",
        watch: Watch = lambda *_: None,
        cancel: threading.Event | None = None,
    ) -> Deployed:
        """Send the studio to the place that was looked at, and ask for hardware where some is named.

        Raises ConfigError, HubError, Cancelled; what fails leaves the Space as it was (or empty, where it is new), and
        the next try sends only what is missing.
        """
        if hardware:
            check_hardware(hardware)
        commit, gone = place.commit, place.gone
        if not commit:
            with told(place.repo_id):
                self._api.create_repo(place.repo_id, repo_type="space", space_sdk="gradio", private=place.private)
                commit = commit_of(self._api.space_info(place.repo_id).sha, place.repo_id)
        done = send(
            self._api, place.repo_id, sources.files, message="SynMotion Studio", parent=commit, gone=gone,
            repo_type="space", at_once=100, watch=watch, cancel=cancel,
        )  # fmt: skip
        problem = ""
        if hardware:
            try:
                with told(f"{place.repo_id} on {hardware}"):
                    self._api.request_space_hardware(place.repo_id, hardware)  # pyright: ignore[reportArgumentType]
            except UserInputError as error:  # the studio is there all the same
                problem = str(error)
        url = f"{self._api.endpoint}/spaces/{place.repo_id}"
        return Deployed(
            url=url, commit=done, files=len(sources.files), removed=gone, hardware=hardware, problem=problem
        )
