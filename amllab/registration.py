"""Registration of the course's backbones with timm, which neither loads timm nor depends on the order of imports."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

BACKBONES = "amllab.backbones"  # importing it registers them


def register_backbones() -> None:
    """Register the backbones now if timm is loaded, else as soon as it is imported."""
    if "timm" in sys.modules:
        import_module(BACKBONES)
    else:
        sys.meta_path.insert(0, _WithBackbones())


class _WithBackbones(MetaPathFinder):
    """Finds timm once, as without this finder, and has the backbones imported after it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the specification of timm, and ``None`` for any other module."""
        if fullname != "timm":
            return None
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def load_both(module: ModuleType) -> None:
            load(module)
            import_module(BACKBONES)

        spec.loader.exec_module = load_both  # type: ignore[method-assign]
        return spec
