"""Who may import whom, and what importing must not do."""

import ast
import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ppo_jax"
LINKED = ("envs", "configs")  # in a checkout: links to folders at its top
CORE = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if path.relative_to(PACKAGE).parts[0] not in LINKED
)
ENVIRONMENTS, CONFIGURATIONS = (sorted((PACKAGE / x).glob("*.py")) for x in LINKED)
PRODUCT = [*CORE, *ENVIRONMENTS, *CONFIGURATIONS]

# The rooms from left to right: each may import of ppo_jax what stands left of it.
ROOMS = (
    ("types", "options", "compiling"),
    ("policies",),
    ("learning",),
    ("loops",),
    ("runs",),
    ("sweeps",),
    ("rsl_rl", "export"),
    LINKED,
    ("cli", "__main__"),
)
RANK = {name: rank for rank, names in enumerate(ROOMS) for name in names}
PURE = ("types", "options", "compiling", "policies", "learning", "loops")
HOST = {"os", "pathlib", "time", "signal", "threading", "subprocess", "multiprocessing"}

HEAVY = {
    "torch",
    "isaaclab",
    "rsl_rl",
    "tensorboardX",
    "yaml",
    "orbax",
    "matplotlib",
    "rich",
    "imageio",
    "pyarrow",
    "onnx",
    "onnxruntime",
    "viser",
    "trimesh",
}
BY_FLAX = {"rich", "yaml"}  # `import flax` loads these, whatever we do


@functools.cache
def parsed(path):
    return ast.parse(path.read_text())


@functools.cache
def imported(path, everywhere=True):
    """Names of all modules that a file imports: "ppo_jax.types", "jax.numpy", ..."""
    return tuple(_imported(parsed(path), path, everywhere))


def _imported(tree, path, everywhere):
    nodes = ast.walk(tree) if everywhere else tree.body
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            for alias in node.names:  # from ppo_jax.runs import checkpoint
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else node.module


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = [module_of(path) for path in PRODUCT]
each_module = pytest.mark.parametrize("path", CORE, ids=module_of)


def own(path, everywhere=True):
    """Modules of ppo_jax that a file imports, without "ppo_jax." in front."""
    for name in imported(path, everywhere):
        package, _, module = name.partition(".")
        if package == "ppo_jax":
            yield module


def room_of(module):
    return module.partition(".")[0]


@each_module
def test_a_room_imports_only_what_stands_left_of_it(path):
    room = room_of(module_of(path).removeprefix("ppo_jax.").removeprefix("ppo_jax"))
    if not room:  # ppo_jax/__init__.py gathers the public names
        return
    right = {name for name in own(path) if RANK[room_of(name)] > RANK[room]}
    assert not right


def test_every_room_says_what_belongs_there():
    rooms = {path.name for path in (ROOT / "ppo_jax").iterdir() if path.is_dir()}
    rooms -= {"__pycache__", *LINKED}
    assert rooms <= RANK.keys()
    for room in rooms:
        docstring = ast.get_docstring(
            ast.parse((ROOT / "ppo_jax" / room / "__init__.py").read_text())
        )
        assert docstring
        assert "Here belongs" in docstring


def test_the_design_names_every_module():
    """A module that nobody drew has no place yet."""
    page = (ROOT / "docs" / "design.md").read_text()
    missing = [path.name for path in CORE if path.name not in page]
    assert set(missing) <= {"__init__.py", "__main__.py"}


@pytest.mark.parametrize(
    "path",
    [p for p in CORE if room_of(module_of(p).removeprefix("ppo_jax.")) in PURE],
    ids=module_of,
)
def test_what_is_pure_touches_neither_disk_nor_clock_nor_process(path):
    harmless = {
        "types": {"pathlib"},  # names a Path, opens none
        "compiling": {"os"},  # reads XLA_FLAGS, as XLA itself does
    }
    found = {name.partition(".")[0] for name in imported(path)}
    assert not found & HOST - harmless.get(path.stem, set())


@pytest.mark.parametrize("path", CORE, ids=module_of)
def test_ppo_jax_imports_neither_torch_nor_simulators(path):
    """But for what a person types, and rsl_rl's files."""
    packages = {name.partition(".")[0] for name in imported(path)}
    room = room_of(module_of(path).removeprefix("ppo_jax."))
    assert "isaaclab" not in packages
    if room != "cli":
        assert "isaaclab_rl" not in packages
    if module_of(path) not in ("ppo_jax.rsl_rl.files", "ppo_jax.rsl_rl.memory"):
        assert "torch" not in packages


@each_module
def test_what_is_heavy_is_imported_where_it_is_used(path):
    """Not at the top of a module."""
    packages = {name.partition(".")[0] for name in imported(path, everywhere=False)}
    assert not packages & HEAVY
    assert not {room_of(name) for name in own(path, everywhere=False)} & set(LINKED)


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_environments_know_the_vocabulary_only(path):
    assert {room_of(name) for name in own(path)} <= {
        "types",
        "options",
        "compiling",
        "envs",
    }


# --- one copy of envs and configs, and their names left to others

WRITTEN = [
    path
    for folder in (*LINKED, "ppo_jax", "tests", "benchmarks", "notebooks", "docs", ".")
    for suffix in ("py", "ipynb", "md")
    for path in (ROOT / folder).glob(
        f"*.{suffix}" if folder == "." else f"**/*.{suffix}"
    )
]
OF_OTHERS = {"test_own_tasks.py"}  # a project that has packages of these names
AT_THE_TOP = re.compile(
    r"(?<![\w.])(?<!ppo_jax )((from|import) |import_module\([\"'])(envs|configs)\b"
)


def test_nothing_here_imports_envs_or_configs_from_the_top():
    """They would be second copies: a class of one is none of the other."""
    assert len(WRITTEN) > 300
    lines = {
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in WRITTEN
        if path.name not in OF_OTHERS
        for line in path.read_text(encoding="utf-8").split("\n")
        if AT_THE_TOP.search(line) and "from envs to loops" not in line
    }
    assert not lines


@pytest.mark.skipif(not (ROOT / "envs").exists(), reason="no checkout")
@pytest.mark.parametrize("name", LINKED)
def test_whoever_imports_the_folder_is_told_the_package(name):
    assert (PACKAGE / name).resolve() == ROOT / name
    words = python(
        f"try:\n    import {name}\nexcept ImportError as error:\n    print(error)"
    )
    assert f"ppo_jax.{name}:" in words


# --- what importing must not do


def calls_at_import(path):
    """The expression of each call that runs when the module is imported."""

    def visit(node):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                arguments = child.args
                for default in [*arguments.defaults, *arguments.kw_defaults]:
                    if default is not None:
                        yield from visit(ast.Expr(default))
                for decorator in getattr(child, "decorator_list", []):
                    yield from visit(ast.Expr(decorator))
                continue
            if isinstance(child, ast.Call):
                yield ast.unparse(child.func)
            yield from visit(child)

    yield from visit(parsed(path))


@pytest.mark.parametrize(
    "path", PRODUCT, ids=lambda path: f"{path.parent.name}.{path.stem}"
)
def test_no_array_is_made_at_import(path):
    """It would start the backend before Isaac's launcher and before XLA's settings."""
    made = [
        call
        for call in calls_at_import(path)
        if call.partition(".")[0] in ("jnp", "jax", "lax")
        and call not in ("jax.jit", "jax.named_scope")  # neither makes one
    ]
    assert not made


def test_calls_at_import_are_seen(tmp_path):
    """The finder itself: bodies of functions wait, defaults and decorators do not."""
    path = tmp_path / "module.py"
    path.write_text(
        "A = jnp.zeros(3)\n"
        "B = {'f': jnp.tanh, 'g': lambda x: jnp.sin(x)}\n"
        "def f(x=jnp.ones(1)):\n    return jnp.cos(x)\n"
        "class C:\n    x: int = field(jax.random.key(0))\n"
        "    @jax.jit\n    def m(self):\n        return jnp.exp(1)\n"
    )
    assert set(calls_at_import(path)) == {
        "jnp.zeros",
        "jnp.ones",
        "field",
        "jax.random.key",
    }


def python(code):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def test_importing_ppo_jax_loads_nothing():
    loaded = python("import ppo_jax.envs, ppo_jax.configs, sys; print(*sys.modules)")
    assert "ppo_jax" in loaded
    packages = {name.partition(".")[0] for name in loaded}
    assert not packages & {"jax", "numpy", "flax", "optax", "rich"}


def test_all_public_names_load_nothing_heavy_and_start_no_backend():
    loaded = python(
        "import sys\nfrom ppo_jax import *\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge._backends, 'a backend was started'\n"
        "print(*sys.modules)\n"
    )
    assert "ppo_jax" in loaded
    assert not {"ppo_jax.envs", "ppo_jax.configs"} & set(loaded)
    assert not {name.partition(".")[0] for name in loaded} & (HEAVY - BY_FLAX)


@pytest.mark.slow
def test_importing_every_module_starts_no_backend():
    modules = [module_of(path) for path in CORE if path.stem != "isaaclab_plugin"]
    loaded = python(
        "import sys, importlib\n"
        f"for name in {[*modules, 'ppo_jax.envs.task']}:\n"
        "    importlib.import_module(name)\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge._backends, 'a backend was started'\n"
        "print(*sys.modules)\n"
    )
    assert set(modules) <= set(loaded)
    packages = {name.partition(".")[0] for name in loaded}
    assert not packages & (HEAVY - BY_FLAX)
