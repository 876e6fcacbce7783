"""The structure of pipeline/ in numbers: modules, imports, circles, how deep they go, lines by package, its style.

    python -m benchmarks.structure

An import counts wherever it stands: at the top of a module, in a function, or for the type checker alone.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import grimp
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

PACKAGE = "pipeline"


def modules_and_imports() -> dict[str, set[str]]:
    """For each module of the package the modules of the package that it imports."""
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def circles(imports: dict[str, set[str]]) -> list[set[str]]:
    """Groups of modules that reach each other through imports, the strongly connected components of two or more."""
    names = sorted(imports)
    place = {name: index for index, name in enumerate(names)}
    pairs = [(place[module], place[imported]) for module in names for imported in imports[module]]
    rows, columns = zip(*pairs, strict=True) if pairs else ((), ())
    matrix = csr_array(([1] * len(pairs), (rows, columns)), shape=(len(names), len(names)))
    _, labels = connected_components(matrix, directed=True, connection="strong")
    groups: dict[int, set[str]] = {}
    for name, label in zip(names, labels.tolist(), strict=True):
        groups.setdefault(label, set()).add(name)
    return [group for group in groups.values() if len(group) > 1]


def depth(imports: dict[str, set[str]]) -> int:
    """How many floors the imports have: modules on the longest chain, each circle counted as one module."""
    circle_of = {name: min(group) for group in circles(imports) for name in group}
    merged: dict[str, set[str]] = {}
    for module, imported in imports.items():
        own = circle_of.get(module, module)
        merged.setdefault(own, set()).update(circle_of.get(name, name) for name in imported)
    floors: dict[str, int] = {}

    def floor(module: str) -> int:
        if module not in floors:
            below = [floor(name) for name in merged[module] if name != module]
            floors[module] = 1 + max(below, default=0)
        return floors[module]

    return max(map(floor, merged), default=0)


def lines_by_package(root: Path) -> dict[str, int]:
    """Lines of Python in each entry of the package; those of the modules beside the packages are summed up."""
    lines: Counter[str] = Counter()
    for file in root.rglob("*.py"):
        inside = file.relative_to(root)
        entry = inside.parts[0] if len(inside.parts) > 1 else "modules at the top"
        lines[entry] += len(file.read_text("utf-8").splitlines())
    return dict(lines)


def densities(sources: Iterable[str]) -> dict[str, float]:
    """What makes code slow or quick to read, for each 1,000 lines.

    Args:
        sources: the text of modules.

    Returns:
        Conditional expressions (`a if b else c`), assignments of several values in one (`a, b = 1, 2` or `a = b = 1`),
        and lines that are a comment and nothing else.
    """
    found = Counter({"conditional expressions": 0, "multiple assignments": 0, "comment lines": 0})
    lines = 0
    for source in sources:
        lines += len(source.splitlines())
        found["comment lines"] += sum(line.lstrip().startswith("#") for line in source.splitlines())
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.IfExp):
                found["conditional expressions"] += 1
            elif isinstance(node, ast.Assign) and (len(node.targets) > 1 or _is_pairwise(node)):
                found["multiple assignments"] += 1
    return {name: 1000 * count / max(lines, 1) for name, count in found.items()}


def _is_pairwise(node: ast.Assign) -> bool:
    return isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple)


def main() -> None:
    """Print the figures."""
    imports = modules_and_imports()
    root = Path(PACKAGE)
    entries = {file.name for file in root.iterdir() if not file.name.startswith("__")}
    found = circles(imports)
    print(f"entries of {PACKAGE}/   {len(entries)}")
    print(f"modules              {sum(1 for _ in root.rglob('*.py'))}")
    print(f"imports              {sum(map(len, imports.values()))}")
    print(f"circles              {len(found)}")
    for group in found:
        print(f"  {', '.join(sorted(group))}")
    print(f"depth                {depth(imports)}")
    lines = lines_by_package(root)
    print(f"lines                {sum(lines.values())}")
    for entry, count in sorted(lines.items(), key=lambda item: -item[1]):
        print(f"  {entry:18} {count}")
    print("for each 1,000 lines")
    for name, density in densities(file.read_text("utf-8") for file in root.rglob("*.py")).items():
        print(f"  {name:24} {density:.1f}")


if __name__ == "__main__":
    main()
