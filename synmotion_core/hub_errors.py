"""What can go wrong on the way to the Hub, as sentences. None of them holds a token."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator
from typing import Any

from synmotion_core.errors import ConfigError, HubError, StorageError, UserInputError

_NAME = r"[A-Za-z0-9][\w.-]*"
_REPO_ID = re.compile(f"{_NAME}/{_NAME}", re.ASCII)
_ADDRESS = re.compile(rf"(?:https?://)?(?:huggingface\.co|hf\.co)/({_NAME}/{_NAME}?)(?:\.git|/.*)?", re.ASCII)
LOG_IN = (
    "you are not logged in: set HF_TOKEN to a token with the right to write, from huggingface.co/settings/tokens; on "
    "a Space, log in on its page"
)
_STATUS = {
    401: "the Hub does not take your token: make a new one at huggingface.co/settings/tokens",
    402: "the Hub wants a way to pay for it: see huggingface.co/settings/billing",
    403: "your token may not do that: it needs the right to write there",
    404: "the Hub has none such (any more), or you may not see it",
    409: "somebody made or changed it in the meantime: try again",
    412: "it was changed in the meantime: look at it, then try again",
    413: "the Hub finds it too large",
    429: "the Hub asks for a pause: try again in some minutes",
}


def check_repo_id(repo_id: str) -> None:
    """Raise ConfigError unless it is owner/name.

    >>> check_repo_id("https://huggingface.co/ann/my-wave")
    Traceback (most recent call last):
    synmotion_core.errors.ConfigError: a repository is named owner/name, got 'https://huggingface.co/ann/my-wave': \
use 'ann/my-wave'
    """
    fits = _REPO_ID.fullmatch(repo_id) and len(repo_id) <= 96 and "--" not in repo_id and ".." not in repo_id
    if not fits or repo_id.endswith((".git", ".", "-")):
        address = _ADDRESS.fullmatch(repo_id.strip())
        hint = f"use {address[1]!r}" if address else "for example 'ann/my-wave'"
        raise ConfigError(f"a repository is named owner/name, got {repo_id[:200]!r}: {hint}")


@contextlib.contextmanager
def told(what: str, revision: str | None = None, *, reading: bool = False) -> Iterator[None]:
    """The client's errors become HubError (ConfigError for a name that is none, StorageError where the disk is full);
    `what` they are about begins them. reading: nothing is to be written there.
    """
    from huggingface_hub import errors

    try:
        yield
    except (UserInputError, RecursionError):  # RecursionError is a RuntimeError: what was read is nested without end
        raise
    except (errors.HTTPError, errors.HFValidationError, OSError, RuntimeError) as error:  # the client's own, and xet's
        raise _sentence(error, what, revision, reading) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # the client takes apart what it is answered
        if str(error).startswith("Invalid metadata in README.md"):
            said = " ".join(str(error).split()).removeprefix("Invalid metadata in README.md. ")[:500]
            raise ConfigError(f"the Hub does not take the card's front matter: {said}") from error
        raise HubError(
            f"{what}: the Hub's answer cannot be read ({type(error).__name__}): something between here and it may have "
            "answered instead, or the page's front matter is broken"
        ) from error


def is_forbidden(error: BaseException) -> bool:
    """Whether the Hub has refused this person, or says of a repository that it is not there, as it does then too."""
    from huggingface_hub import errors

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, (errors.RepositoryNotFoundError, errors.GatedRepoError)):
            return True
        if isinstance(cause, errors.HfHubHTTPError):
            return getattr(cause.response, "status_code", 0) in (401, 403)
        cause = cause.__cause__
    return False


def _sentence(error: BaseException, what: str, revision: str | None, reading: bool) -> UserInputError:
    from huggingface_hub import errors

    cause: Any = error  # what it wraps says more: uploads raise RuntimeError, downloads "not found locally"
    while cause.__cause__ is not None and not isinstance(cause, errors.HfHubHTTPError):
        cause = cause.__cause__
    if isinstance(cause, errors.GatedRepoError):
        return HubError(f"{what} asks you to accept its conditions first: log in, and accept them on its page")
    if isinstance(cause, errors.RevisionNotFoundError):
        return HubError(f"{what} has no revision {revision!r}")
    if isinstance(cause, errors.RemoteEntryNotFoundError):
        return HubError(f"{what} does not hold that file any more: look again")
    if isinstance(cause, errors.LocalTokenNotFoundError):
        return HubError(f"{what}: {LOG_IN}")
    if isinstance(cause, errors.OfflineModeIsEnabled):
        return HubError("HF_HUB_OFFLINE is set: unset it to use the Hub")
    if isinstance(cause, errors.HFValidationError):
        return ConfigError(f"{what} cannot be named so: {cause}")
    if isinstance(cause, errors.HfHubHTTPError):
        status: int = getattr(cause.response, "status_code", 0)
        if "invalid credentials" in str(cause).lower():
            return HubError(f"{what}: {_STATUS[401]}")
        if isinstance(cause, errors.RepositoryNotFoundError):
            return HubError(f"the Hub has no {what}, or it is private and you are not logged in as one who may see it")
        if status == 403 and reading:
            return HubError(f"{what}: you may not read it, or not with this token")
        return HubError(f"{what}: {_STATUS.get(status, f'the Hub answered with an error ({status}): try again later')}")
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"{what}: the disk is full: make room, then try again")
    if isinstance(cause, OSError) and cause.errno is not None and cause.filename is not None:
        return HubError(f"{what}: {cause.filename} could not be read or written ({cause.strerror})")
    return HubError(f"the Hub cannot be reached, or the connection broke ({type(cause).__name__}): try again")
