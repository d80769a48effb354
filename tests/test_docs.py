"""What the README and the notebooks show is run as they show it."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp
import jupytext
import nbclient
import pytest

import reskeras
from tuning.space import load_space

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def snippets(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_two_commands_are_those_of_ci() -> None:
    install, test = snippets("bash")[:2]
    # The main job itself: tests/cli/test_cli.py
    assert install == "python -m pip install . && reskeras tune\n"
    assert test.strip() in (ROOT / ".ci" / "run").read_text()


def test_the_readmes_commands_work(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(snippets("yaml")[0])
    assert len(load_space("space.yaml").vary) == 4
    commands = [line for block in snippets("bash")[2:] for line in block.splitlines()]
    assert commands[0] == "reskeras ui"  # tests/cli/test_cli.py
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command in commands[1:]:
        done = subprocess.run(
            command, shell=True, capture_output=True, text=True, check=False, env=environment
        )
        assert done.returncode == 0, (command, done.stderr)
    assert reskeras.load_spec("my.yaml") == reskeras.preset("resnet20")
    assert (tmp_path / "searches" / "space-digits" / "best.keras").exists()
    assert all(command.split()[0] == "reskeras" for command in commands)


def test_the_readmes_python_works() -> None:
    namespace: dict[str, object] = {}
    for snippet in snippets("python"):
        assert len(snippet.strip().splitlines()) <= 16
        exec(compile(snippet, "README.md", "exec"), namespace)


def test_the_readmes_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


@pytest.mark.parametrize(
    "path", sorted((ROOT / "notebooks").glob("*.py")), ids=lambda path: path.stem
)
def test_notebooks_run(path: Path, tmp_path: Path) -> None:
    notebook = jupytext.read(path)
    nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    assert not [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "error"
    ]


def test_every_tox_environment_is_run_by_ci() -> None:
    text = (ROOT / "tox.ini").read_text()
    listed = re.search(r"env_list = (.*)", text).group(1).split(", ")
    assert sorted(listed) == sorted(re.findall(r"\[testenv:(\w+)\]", text))
    assert "&& tox)" in (ROOT / ".ci" / "run").read_text()  # all of them: no -e


PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_and_modules_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", text):
        assert (page.parent / target).exists(), target
    for path in re.findall(r"`((?:reskeras|tuning|tests|docs|benchmarks)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path
    assert "reskeras[" not in text  # an extra of a clone is '.[ray]'
    for name in re.findall(r"`((?:reskeras|tuning)(?:\.\w+)+)`", text):
        assert resolves(name) or name in tags(), name


def tags() -> set[str]:
    """The tags of MLflow that look like a module, and `reskeras.tuning`, which a decision
    rejects."""
    sources = (ROOT / "tuning").rglob("*.py")
    found = (re.findall(r'"(reskeras\.\w+)"', path.read_text("utf-8")) for path in sources)
    return {"reskeras.tuning", *(tag for tags in found for tag in tags)}


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or what a module defines or imports; loads nothing."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:count])
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if file.exists():
            tree: ast.AST = ast.parse(file.read_text(encoding="utf-8"))
            for part in parts[count:]:
                found = next((node for node in bodies(tree) if part in names(node)), None)
                if found is None:
                    return False
                tree = found
            return True
    return False


def bodies(tree: ast.AST) -> Iterator[ast.AST]:
    """What a module or class holds, also below `if TYPE_CHECKING:`."""
    for node in getattr(tree, "body", ()):
        yield node
        if isinstance(node, ast.If):
            yield from bodies(node)


def names(node: ast.AST) -> list[str]:
    """The names that a statement defines or imports."""
    match node:
        case ast.ClassDef() | ast.FunctionDef():
            return [node.name]
        case ast.Import() | ast.ImportFrom():
            return [alias.asname or alias.name for alias in node.names]
        case ast.Assign():
            return [target.id for target in node.targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []


def test_the_picture_of_imports_is_that_of_the_imports() -> None:
    script = ROOT / "docs" / "import_graph.py"
    picture = (ROOT / "docs" / "images" / "import_graph.svg").read_text(encoding="utf-8")
    code = f"import runpy; print(runpy.run_path({str(script)!r})['draw'](), end='')"
    drawn = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    assert drawn == picture, "python docs/import_graph.py draws it again"


def test_each_room_names_the_rooms_that_it_imports_and_that_import_it() -> None:
    graph = grimp.build_graph("reskeras", "tuning", exclude_type_checking_imports=True)
    rooms = {
        ".".join(init.parent.relative_to(ROOT).parts): init
        for package in ("reskeras", "tuning")
        for init in (ROOT / package).rglob("__init__.py")
    }

    def room(module: str) -> str:
        return module if module in rooms else module.rpartition(".")[0]

    pairs = {
        (room(module), room(imported))
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
    }
    packages = {"reskeras", "tuning"}
    for name, init in rooms.items():
        if name not in packages:
            own = {pair for pair in pairs if name in pair and len(set(pair)) == 2}
            imports = {other for _, other in own} - {name} - packages
            told = " ".join((ast.get_docstring(ast.parse(init.read_text())) or "").split())
            expected = [f"Imports: {', '.join(sorted(imports))}."] if imports else []
            if importers := {other for other, _ in own} - {name}:
                expected.append(f"Imported by: {', '.join(sorted(importers))}.")
            assert told.endswith(" ".join(expected)), f"{init}: {' '.join(expected)}"
