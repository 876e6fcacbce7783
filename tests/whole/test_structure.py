"""The layout shows the architecture: few entries, each explained, no cycles; DVC depends on all code of a stage."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml

from benchmarks.structure import circles, densities, depth, lines_by_package, modules_and_imports
from pipeline.system.project import PROJECT

PACKAGE = PROJECT / "pipeline"
STAGES: dict[str, dict[str, Any]] = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
DATA = {
    "config": "what it reads stands in conf/data, which the stage depends on",
    "system": "writes files; the checksums in conf/data decide what is in them",
}
TRAINING = {
    "backends/keras": "a stage that trains on NumPy",
    "backends/numpy": "a stage that trains on Keras",
    "diagnosis": "what is said of a trained point; `compare` says it again",
    "drawing": "figures, which `compare` draws again",
    "studies": "what is said of trained points; `compare` says it again",
    "tracking": "MLflow, which is no out of the stage",
}
NOT_DEPENDED_ON = {
    "fetch": DATA,
    "prepare": DATA,
    "prepare_with_test_rows": DATA,
    "rounding": {},
    "compare": {},
    "page": {},
}
"""What the command of a stage imports that its outs do not depend on, and why; for stages that train: TRAINING."""


def test_a_stranger_sees_twelve_commands_and_the_packages() -> None:
    entries = [path for path in PACKAGE.iterdir() if not path.name.startswith("__")]
    assert len(entries) <= 23
    commands = [path for path in entries if path.suffix == ".py"]
    assert len(commands) == 12
    assert all('if __name__ == "__main__":' in command.read_text() for command in commands)


def test_each_package_says_what_it_is_for_in_one_line() -> None:
    for init in PACKAGE.rglob("__init__.py"):
        says = ast.get_docstring(ast.parse(init.read_text()))
        assert says, init
        assert len(says.splitlines()[0]) <= 120


def test_no_module_imports_itself_through_others() -> None:
    assert circles(modules_and_imports()) == []


def test_circles_and_depth_are_found() -> None:
    imports = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}, "e": set[str]()}
    assert circles(imports) == [{"b", "c"}]
    assert depth(imports) == 3
    assert circles({"a": {"b"}, "b": set()}) == []


def test_lines_are_counted_by_package(tmp_path: Path) -> None:
    for name, lines in (("top.py", 2), ("package/one.py", 3), ("package/deeper/two.py", 4)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x\n" * lines)
    assert lines_by_package(tmp_path) == {"modules at the top": 2, "package": 7}


def test_the_code_has_one_thought_a_line_and_says_why() -> None:
    found = densities(file.read_text() for file in PACKAGE.rglob("*.py"))
    assert found["conditional expressions"] <= 5
    assert found["multiple assignments"] <= 2
    assert found["comment lines"] >= 25


def test_densities_are_counted() -> None:
    source = "# why\na, b = 1, 2  # beside it\nc = d = a if b else 3\ne, f = divmod(a, b)\nprint('# no comment')\n"
    assert densities([source]) == {
        "conditional expressions": 200,
        "multiple assignments": 400,
        "comment lines": 200,
    }


@pytest.mark.parametrize("stage", [name for name in STAGES if not name.startswith("shared")])
def test_a_stage_depends_on_all_that_its_command_runs(stage: str) -> None:
    """So that an edit to any of it renews what the stage has written."""
    body = STAGES[stage].get("do", STAGES[stage])
    deps = list(body["deps"])
    for shared in ("shared", "shared_pages"):
        if f"data/{shared}.txt" in deps:
            deps += STAGES[shared]["deps"]
    depended = [Path(dep.replace("${item.backend}", "numpy")) for dep in deps]
    excused = [PACKAGE / folder for folder in NOT_DEPENDED_ON.get(stage, TRAINING)]
    graph = grimp.build_graph("pipeline", cache_dir=None)
    for command in re.findall(r"python -m (pipeline\.\w+)", body["cmd"]):
        for module in {command, *graph.find_upstream_modules(command)}:
            path = PROJECT / module.replace(".", "/")
            file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            if file.name == "__init__.py":  # a docstring, and no code
                continue
            places = [*(PROJECT / dep for dep in depended), *excused]
            assert any(file.is_relative_to(place) for place in places), f"{stage}: {module}"
