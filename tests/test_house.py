"""The house rules: what README says is there is there, what ships is small and safe, what is public works."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml

import synmotion_core
from synmotion_core import errors

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "synmotion_core"
README = ROOT / "README.md"
MIB = 2**20


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def syntax(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@lru_cache
def shipped() -> list[Path]:
    """Files that git tracks or would add; without git (an unpacked archive), every file outside hidden folders."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if listed.returncode == 0:
        found = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    else:
        found = [p for p in ROOT.rglob("*") if not any(part.startswith(".") for part in p.relative_to(ROOT).parts)]
    return sorted(p for p in found if p.is_file() and "__pycache__" not in p.parts)


def imported(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """(module, line) of every import, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module, node.lineno


# ------------------------------------------------------------------------------------------------ README


def section(title: str) -> str:
    """The text under a second-level heading of README."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README.read_text(encoding="utf-8"), re.M | re.S)
    assert found, f"README has no section {title!r}"
    return found.group(1)


def blocks(text: str) -> list[str]:
    return re.findall(r"^```[a-z]*\n(.*?)^```$", text, re.M | re.S)


def drawn_tree() -> dict[str, str]:
    """README's tree of the package: path -> what it says. A folder's line speaks for its __init__.py."""
    block = next(b for b in blocks(section("Tree")) if b.startswith("synmotion_core/"))
    folders: list[str] = []
    drawn = {}
    for line in block.splitlines():
        match = re.fullmatch(r"( *)(\S+)(?: {2,}(\S.*))?", line)
        assert match, f"not a line of the tree: {line!r}"
        indent, name, says = match.groups()
        assert len(indent) % 2 == 0, f"two spaces a level: {line!r}"
        assert len(indent) // 2 <= len(folders), f"indented too far: {line!r}"
        folders = folders[: len(indent) // 2]
        path = "".join(folders) + name
        assert path not in drawn, f"README's tree has {path} twice"
        drawn[path] = says or ""
        if name.endswith("/"):
            folders.append(name)
    return drawn


def real_tree() -> dict[str, str]:
    """The same, from the files: path -> the first sentence of its docstring, where it has one; of data the folder."""
    tree = {}
    for path in (p for p in PACKAGE.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
        if path.suffix in (".json", ".yaml"):
            tree[f"{name_of(path.parent)}/"] = ""
            continue
        docstring = ast.get_docstring(syntax(path)) if path.suffix == ".py" else ""
        tree[name_of(path).removesuffix("__init__.py")] = (docstring or "").split("\n")[0].split(". ")[0].rstrip(".")
    # files before folders, each in the order of the alphabet
    return dict(sorted(tree.items(), key=lambda item: [(p.endswith("/"), p) for p in re.findall(r"[^/]+/?", item[0])]))


def test_the_tree_in_readme_is_the_real_tree() -> None:
    drawn, real = drawn_tree(), real_tree()
    lines = []
    for place, docstring in real.items():
        level = place.rstrip("/").count("/")
        name = re.findall(r"[^/]+/?", place)[-1]
        lines.append(f"{'  ' * level}{name}".ljust(26) + "  " + (drawn.get(place) or docstring))
    wrong = sorted(set(real) ^ set(drawn)) + [place for place, says in drawn.items() if not says]
    assert not wrong, f"README's tree differs at {', '.join(wrong)}; it should be:\n\n" + "\n".join(lines)


def front_matter() -> dict[str, Any]:
    found = re.match(r"---\n(.*?\n)---\n", README.read_text(encoding="utf-8"), re.S)
    assert found, "README must begin with the Space's front matter"
    return yaml.safe_load(found.group(1))


def test_the_front_matter_is_the_spaces_config() -> None:
    config = yaml.safe_load((ROOT / "spaces_config.yaml").read_text(encoding="utf-8"))
    assert front_matter() == config
    assert list(front_matter()) == list(config), "the same order, too"


def test_the_space_opens_this_app_with_the_pinned_gradio() -> None:
    config = front_matter()
    assert config["sdk"] == "gradio"
    assert f"gradio[oauth]=={config['sdk_version']}" in requirements()
    assert (ROOT / config["app_file"]).is_file()
    assert re.fullmatch(r"3\.1[0-3]", str(config["python_version"]))
    assert isinstance(config["python_version"], str), "3.10 without quotes would be read as 3.1"
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {config["colorFrom"], config["colorTo"]} <= colours
    assert len(config["short_description"]) <= 60


@pytest.mark.parametrize("title", ["Run", "Test"])
def test_run_and_test_are_one_line_each(title: str) -> None:
    found = blocks(section(title))
    assert len(found) == 1, f"one fenced block under {title}"
    (line,) = found[0].splitlines()
    files = re.findall(r"\S+\.(?:txt|py|sh)\b", line)
    assert files
    assert [f for f in files if not (ROOT / f).is_file()] == []
    assert "requirements.txt" in files


def test_links_in_readme_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", README.read_text(encoding="utf-8"))
    inside = [t for pair in targets for t in pair if t and not t.startswith(("http:", "https:"))]
    assert [t for t in inside if not (ROOT / t).exists()] == []


# ------------------------------------------------------------------------------------------------ the package


def test_public_names_are_those_listed() -> None:
    tree = syntax(PACKAGE / "__init__.py")
    for_types = {
        alias.asname or alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    homes = {name: f"synmotion_core.{home}" for name, home in synmotion_core._HOME.items()}
    assert sorted(synmotion_core.__all__) == sorted(homes)
    assert len(set(synmotion_core.__all__)) == len(synmotion_core.__all__)
    assert for_types == homes


def test_public_names_load_when_first_used() -> None:
    for name in synmotion_core.__all__:
        value = getattr(synmotion_core, name)
        assert value is getattr(importlib.import_module(f"synmotion_core.{synmotion_core._HOME[name]}"), name)
    assert set(synmotion_core.__all__) <= set(dir(synmotion_core))
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = synmotion_core.trian  # pyright: ignore[reportAttributeAccessIssue]


def loaded_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(' '.join({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    return set(done.stdout.splitlines()[-1].split())


HEAVY = {"diffusers", "transformers", "peft", "gradio", "accelerate", "bitsandbytes", "huggingface_hub"}


@pytest.mark.parametrize(
    ("statement", "never"),
    [
        ("import synmotion_core", {"torch", "numpy", "cv2", *HEAVY}),
        ("import synmotion_core.config", {"torch", "numpy", "cv2", *HEAVY}),
        ("import synmotion_core.interfaces, synmotion_core.diffusion", HEAVY),
        ("import synmotion_core.backbones, synmotion_core.methods", {"diffusers", "transformers", "gradio"}),
        ("import synmotion_core.cli", HEAVY),
        ("import synmotion_core.jobs", HEAVY),
    ],
)
def test_importing_is_cheap(statement: str, never: set[str]) -> None:
    assert loaded_after(statement) & never == set()


def test_help_can_be_read_at_once() -> None:
    began = time.perf_counter()
    command = [sys.executable, "-m", "synmotion_core", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for word in ("train", "generate", "prior", "plan", "bench"):
        assert re.search(rf"\b{word}\b", done.stdout), word
    assert time.perf_counter() - began < 20


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_every_module_says_what_it_owns(path: Path) -> None:
    docstring = ast.get_docstring(syntax(path))
    assert docstring, "no module docstring"
    assert len(docstring.split()) >= 5, f"says too little: {docstring!r}"


def test_only_the_page_knows_gradio() -> None:
    guilty = [
        f"{name_of(path)}:{line}"
        for path in modules()
        if "ui" not in path.relative_to(PACKAGE).parts[:1]
        for module, line in imported(syntax(path))
        if module.split(".")[0] in ("gradio", "gradio_client")
    ]
    assert guilty == []


def requirements() -> list[str]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def test_what_is_imported_is_required() -> None:
    called = {"cv2": "opencv-python-headless"}
    brought_by = {"yaml": "huggingface_hub", "tokenizers": "transformers", "PIL": "gradio", "psutil": "accelerate"}
    brought_by |= {"starlette": "gradio"}
    names = {re.split(r"[<>=;\[ ]", line)[0].replace("-", "_").lower() for line in requirements()}
    missing = {
        f"{top} ({name_of(path)}:{line})"
        for path in (*modules(), ROOT / "app.py")
        for module, line in imported(syntax(path))
        if (top := module.split(".")[0]) not in sys.stdlib_module_names
        and top not in ("synmotion_core", "spaces")  # the second is there on a ZeroGPU Space, and nowhere else
        and called.get(top, brought_by.get(top, top)).replace("-", "_").lower() not in names
    }
    assert missing == set()


def test_pins_are_exact_apart_from_torch() -> None:
    assert "torch>=2.10,<=2.13.0" in requirements()
    tools = (ROOT / "tests" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    lines = requirements() + [line for line in tools if line and not line.startswith("#")]
    assert [line for line in lines if "==" not in line and not line.startswith("torch>")] == []


@pytest.mark.parametrize("path", [p for p in modules() if ">>>" in p.read_text(encoding="utf-8")], ids=name_of)
def test_examples_in_docstrings(path: Path) -> None:
    module = importlib.import_module(dotted(path))
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 0
    assert result.failed == 0


def test_the_error_tree_is_drawn_as_it_is() -> None:
    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r" {4}((?:[│ ] {3})*(?:[├└]── )?)(\w+(?:Error|Diverged|Cancelled)|Cancelled)\b", line)
        if match:
            level = len(match.group(1)) // 4
            above = [*above[:level], match.group(2)]
            drawn[match.group(2)] = above[-2] if level else "Exception"
    real = {
        name: value.__bases__[0].__name__
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert drawn == real


# ------------------------------------------------------------------------------------------------ what ships


def test_what_ships_is_small() -> None:
    sizes = {name_of(path): path.stat().st_size for path in shipped()}
    assert sum(sizes.values()) < 45 * MIB
    assert {name: size for name, size in sizes.items() if size > 16 * MIB} == {}


def test_nothing_that_ships_can_run_code_when_read() -> None:
    endings = {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz"}
    pickles = [
        name_of(path)
        for path in shipped()
        if path.suffix in endings or re.match(rb"\x80[\x02-\x05]|PK\x03\x04.{22,200}data\.pkl", path.read_bytes(), re.S)
    ]
    assert pickles == []


def test_no_path_of_one_machine() -> None:
    places = re.compile("|".join([r"(?<![\w.~-])/(?:root|work|home/\w+|Users/\w+|mnt|media)/", r"\b[A-Z]:\\\\?Users"]))
    texts = (".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".json", ".sh", ".css", ".js", "")
    found = [
        f"{name_of(path)}:{number}: {match.group()}"
        for path in shipped()
        if path.suffix in texts and path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (match := places.search(line))
    ]
    assert found == []


# ------------------------------------------------------------------------------------------------ the tests themselves


@pytest.mark.parametrize("address", [("192.0.2.1", 443), ("huggingface.co", 443), ("2001:db8::1", 443, 0, 0)])
def test_the_network_is_out_of_reach(address: tuple[Any, ...], network_attempts: list[str]) -> None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as probe, pytest.raises(ConnectionRefusedError, match="loopback only"):
        probe.connect(address)
    assert network_attempts.pop() == address[0]


def test_loopback_is_in_reach() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        with socket.create_connection(("localhost", server.getsockname()[1]), timeout=5) as client:
            assert client.getpeername()[0] == "127.0.0.1"
