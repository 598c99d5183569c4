"""Which names in a pickle have no place among weights, because calling them runs, loads or fetches something.

Nothing is looked up or called here, whatever the name (see :mod:`seglab.data.pickles`); the judgement is for the user,
who may have other programs that do unpickle. Classes of any library are fine: whole pickled modules name them. Of
torch, functions may only be called that rebuild values.
"""

import sys
from typing import Final

__all__ = ["may_be_called", "may_be_named"]

_BUILTINS: Final = ("builtins", "__builtin__")
_SAFE_BUILTINS: Final = frozenset(
    {
        "bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "long", "object", "range",
        "set", "slice", "str", "tuple", "unicode", "NoneType", "Ellipsis", "NotImplemented",
    }
)  # fmt: skip
_SAFE_MODULES: Final = frozenset(
    {
        "argparse", "collections", "copy_reg", "copyreg", "dataclasses", "datetime", "decimal", "enum", "fractions",
        "numbers", "pathlib", "string", "typing", "uuid",
    }
)  # fmt: skip
"""Of the standard library: what settings are made of."""
_SAFE_SYMBOLS: Final = frozenset({("functools", "partial"), ("types", "SimpleNamespace"), ("_codecs", "encode")})

_LOADERS: Final = (
    "torch.load", "torch.hub", "torch.package", "torch.jit.load", "torch.jit._serialization", "torch.export.load",
    "torch.serialization.load", "torch.serialization._load", "torch.serialization._legacy_load",
    "torch.storage._load_from_bytes", "torch.utils.model_zoo", "torch.utils.cpp_extension", "torch.utils.show_pickle",
    "torch.ops", "torch.classes", "torch.fx", "torch.multiprocessing", "torch.distributed.launch",
    "torch.distributed.run", "torch.distributed.elastic", "torch.distributed.rpc", "torch._dynamo", "torch._inductor",
    "torch.utils._config_module", "numpy.load", "numpy.lib.npyio", "numpy.f2py", "numpy.testing", "numpy.distutils",
    "numpy.ctypeslib", "pandas.eval", "pandas.read_pickle", "pandas.io.pickle", "pandas.core.computation", "joblib",
    "dill", "cloudpickle", "_pickle", "pip", "setuptools", "pkg_resources", "yaml.load", "yaml.unsafe_load", "sh",
)  # fmt: skip
"""Functions, and modules of such, that run, load or fetch code; naming one is enough."""
_REBUILDERS: Final = (
    "torch._utils._rebuild_", "torch._tensor._rebuild_", "torch.jit._pickle.build_",
    "torch.jit._pickle.restore_type_tag",
)  # fmt: skip
"""How the names of torch's functions begin that make values of their arguments."""
_MAKERS: Final = frozenset({"torch.device", "torch.dtype", "torch.finfo", "torch.serialization._get_layout"})


def may_be_named(module: str, name: str) -> bool:
    """Tell whether a name may stand in a pickle of weights at all.

    Args:
        module: The module's full name.
        name: The name in it; since protocol 4 it may have dots.
    """
    root = module.partition(".")[0]
    if root in _BUILTINS:
        return name in _SAFE_BUILTINS
    if root in sys.stdlib_module_names or root in ("nt", "posix", "commands"):
        return root in _SAFE_MODULES or (module, name) in _SAFE_SYMBOLS
    # `torch` with `os.system` reaches whatever a module has imported; classes within classes begin with capitals.
    if any(not _is_class(part) for part in name.split(".")[:-1]):
        return False
    full = f"{module}.{name}"
    return not any(full == loader or full.startswith(f"{loader}.") for loader in _LOADERS)


def may_be_called(module: str, name: str) -> bool:
    """Tell whether a name that may stand there may also be called: of torch, classes and what rebuilds values."""
    if module.partition(".")[0] != "torch":
        return True
    full = f"{module}.{name}"
    return _is_class(name.rpartition(".")[2]) or full in _MAKERS or full.startswith(_REBUILDERS)


def _is_class(name: str) -> bool:
    return name.lstrip("_")[:1].isupper()
