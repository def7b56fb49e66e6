"""Compiles templates for the wheel, so that an installed ovnlab need not load Jinja."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompiledTemplates(BuildHookInterface):  # type: ignore[misc,type-arg]  # hatchling ships no types
    """Puts each template into the wheel as Python, too."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile all. An editable installation compiles what it renders."""
        if version == "editable":
            return
        root = Path(self.root)
        sys.path.insert(0, str(root))
        from ovnlab.templating.compiler import compiled  # noqa: PLC0415  needs the path

        folder = Path(self.directory) / "compiled"
        for path in [*(root / "templates").rglob("*.j2"), root / "Vagrantfile.j2"]:
            name = path.name if path.parent == root else str(path.relative_to(root / "templates"))
            target = folder / f"{name}.py"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(compiled(name, path.read_text()))
        build_data["force_include"][str(folder)] = "ovnlab/_shipped/compiled"
