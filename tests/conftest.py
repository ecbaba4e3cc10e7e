"""What every test stands on: one thread, no network, no real home folder.

Environment variables are set before torch, gradio or huggingface_hub are imported, and child processes inherit them.
Only loopback can be reached; a test that tries anything else fails, even when the code under test swallows the error.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.hub_server import HubServer

_NOBODY = 65534
_HOME = Path(tempfile.mkdtemp(prefix="synmotion-tests-"))

os.environ |= {
    # one test process with two threads on a busy two-core machine is many times slower than with one
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HOME": str(_HOME / "huggingface"),
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_TEMP_DIR": str(_HOME / "gradio"),
    "SYNMOTION_HOME": str(_HOME / "workspace"),
    "NO_PROXY": "localhost,127.0.0.1,::1",
    "no_proxy": "localhost,127.0.0.1,::1",
}
for _name in ("HF_TOKEN", "HF_ENDPOINT", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
    os.environ.pop(_name, None)
    os.environ.pop(_name.lower(), None)

logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # announces optional kernels at import

import torch  # noqa: E402  (after the environment)
from hypothesis import settings  # noqa: E402

from synmotion_core.workspace import Workspace  # noqa: E402

torch.set_num_threads(1)
# the same examples every time, and no clock: a busy machine must not fail a property
settings.register_profile("house", derandomize=True, deadline=None, database=None, max_examples=50)
settings.load_profile("house")


def pytest_unconfigure() -> None:
    shutil.rmtree(_HOME, ignore_errors=True)


def _is_local(host: object) -> bool:
    if host is None or host in ("", "localhost", b"localhost"):
        return True
    text = host.decode() if isinstance(host, bytes) else str(host)
    try:
        address = ipaddress.ip_address(text.split("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


_attempts: list[str] = []


def _refuse_unless_local(host: object) -> None:
    if not _is_local(host):
        _attempts.append(str(host))
        raise ConnectionRefusedError(f"tests reach loopback only, not {host!r}")


@pytest.fixture(scope="session", autouse=True)
def _loopback_only() -> Iterator[None]:
    def guarded(name: str) -> Any:
        original = getattr(socket.socket, name)

        def method(self: socket.socket, address: Any, *rest: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6):
                _refuse_unless_local(address[0])
            return original(self, address, *rest)

        return method

    look_up = socket.getaddrinfo

    def getaddrinfo(host: Any, *rest: Any, **named: Any) -> Any:
        _refuse_unless_local(host)
        return look_up(host, *rest, **named)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, guarded(name))
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        yield


@pytest.fixture(autouse=True)
def network_attempts(_loopback_only: None) -> Iterator[list[str]]:
    """Hosts outside this machine that the test tried to reach; must be empty at its end."""
    yield _attempts
    tried, _attempts[:] = list(_attempts), []
    assert not tried, f"the test tried to reach {', '.join(tried)}"


@pytest.fixture
def locked_folder() -> Iterator[Path]:
    """A folder that this process may read and not write, also where the tests run as root: until the end of the test
    root is nobody. It lies outside tmp_path, whose parents only root may enter."""
    outer = Path(tempfile.mkdtemp(prefix="synmotion-locked-"))
    folder = outer / "locked"
    folder.mkdir()
    root = os.geteuid() == 0
    if root:
        outer.chmod(0o755)
        os.chown(folder, _NOBODY, _NOBODY)
    folder.chmod(0o500)
    if root:
        os.seteuid(_NOBODY)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o700)
        shutil.rmtree(outer)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """An empty workspace of the test's own, also for child processes ($SYNMOTION_HOME)."""
    root = tmp_path / "workspace"
    monkeypatch.setenv("SYNMOTION_HOME", str(root))
    return Workspace(root=root)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub on loopback, and huggingface_hub set to it, here and in child processes; nobody is logged in.

    Its users are ann, whose token hf_ann_write may write, and bob, whose token hf_bob_read may read.
    """
    from huggingface_hub import close_session, constants, hf_api

    from tests.hub_server import HubServer

    with HubServer() as server:
        server.add_user("ann", "hf_ann_write")
        server.add_user("bob", "hf_bob_read", role="read")
        home = tmp_path / "huggingface"
        told = {"HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(home)}
        for name, value in told.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        read_at_import = {
            "ENDPOINT": server.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_TOKEN_PATH": str(home / "token"),
            "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
            "AGENT_HARNESSES_PATH": str(home / "harnesses.json"),
        }
        for name, value in read_at_import.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(hf_api.api, "endpoint", server.url)
        close_session()
        yield server
        close_session()
    assert not server.failures, server.failures[0]
