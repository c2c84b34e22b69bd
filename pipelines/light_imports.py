"""MONAI and nibabel without what no command here uses.

Each package of MONAI imports everything below it, and much of that loads mlflow, pandas and
matplotlib: most of the time of a start. Here a package of MONAI stays empty until a name is asked
of it, which is then imported from the module that the package's own `__init__` names; packages that
MONAI takes for optional are hidden from its modules while those load. nibabel loads without
pydicom, which can be imported later. Only the programs do this, where no code of others shares the
process.
"""

from __future__ import annotations

import ast
import gc
import sys
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import PathFinder, SourceFileLoader
from importlib.metadata import version
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from importlib.machinery import ModuleSpec

HIDDEN = (
    "cv2", "ignite", "jsonschema", "matplotlib", "mlflow", "pandas", "requests", "scipy.signal",
    "scipy.spatial", "sklearn", "tensorboard", "tensorboardX", "yaml",
)  # fmt: skip
_LIBRARY = "monai"
_UNUSED = "numpy.f2py"
"""Its Fortran compiler is loaded by all of SciPy, which copies every public name of NumPy."""


def import_lightly() -> None:
    """Load what all of inference needs, and let MONAI load by parts, unless that is loaded.

    What modules hold stays until the end. A search of it for what could be freed, again and again
    while it grows and once more at the end, takes a fifth of such a start: it is left out.
    """
    gc.disable()
    try:
        _import()
    finally:
        gc.freeze()
        gc.enable()


def _import() -> None:
    if _LIBRARY not in sys.modules:
        sys.meta_path.insert(0, _Finder())
        import_module(_LIBRARY)
    with _stand_ins({"pydicom": None}):  # for extensions of headers, which nobody reads here
        import_module("nibabel")
    for name in ("data.intake", "inference.batch", "inference.predictor"):
        import_module(f"medmtl.{name}")


class _Finder(MetaPathFinder):
    """Finds modules where they are, and gives them the loaders below."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] != _LIBRARY and fullname != _UNUSED:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            is_package = spec.submodule_search_locations is not None
            spec.loader = _PackageLoader(spec.loader) if is_package else _ModuleLoader(spec.loader)
        return spec


class _ModuleLoader(Loader):
    """Runs a module while HIDDEN cannot be imported; they can be imported later.

    Args:
        real: The loader of the file.
    """

    def __init__(self, real: SourceFileLoader) -> None:
        self.real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)  # the source, for tracebacks

    def exec_module(self, module: ModuleType) -> None:
        with _stand_ins(dict.fromkeys(HIDDEN)):
            self.real.exec_module(module)


class _PackageLoader(_ModuleLoader):
    """Leaves a package empty."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Package(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        source = self.real.get_source(module.__name__) or ""
        cast("_Package", module).places_of_names = _places(source)

    def run(self, module: ModuleType) -> None:
        """What `exec_module` did not do."""
        super().exec_module(module)


class _Package(ModuleType):
    """A package that imports a name when it is asked for."""

    places_of_names: dict[str, tuple[str, str]]

    def __getattr__(self, name: str) -> Any:
        if name == "__version__" and self.__name__ == _LIBRARY:
            return version(self.__name__)
        if name.startswith("__") or "places_of_names" not in self.__dict__:
            raise AttributeError(name)
        if name in self.places_of_names:
            place, known_as = self.places_of_names[name]
            value = getattr(import_module(place, self.__name__), known_as)
        elif find_spec(f"{self.__name__}.{name}"):
            value = import_module(f"{self.__name__}.{name}")
        else:
            value = self._run_and_take(name)
        setattr(self, name, value)
        return value

    def _run_and_take(self, name: str) -> Any:
        """A name that the package makes itself: it has to run after all."""
        del self.places_of_names
        cast("_PackageLoader", self.__loader__).run(self)
        if name not in self.__dict__:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return self.__dict__[name]


def _places(source: str) -> dict[str, tuple[str, str]]:
    """Where an `__init__` takes each name from: the module, and what it is called there."""
    return {
        alias.asname or alias.name: ("." * node.level + (node.module or ""), alias.name)
        for node in ast.parse(source).body
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    }


@contextmanager
def _stand_ins(modules: Mapping[str, ModuleType | None]) -> Iterator[None]:
    """Within it, modules that are not loaded are these; those that are None cannot be imported."""
    here = {name: one for name, one in modules.items() if name not in sys.modules}
    sys.modules.update(cast("dict[str, ModuleType]", here))
    try:
        yield
    finally:
        for name in here:
            del sys.modules[name]
