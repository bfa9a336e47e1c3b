"""Who may import whom, and what importing must not do."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRODUCT = sorted(
    path for folder in ("ppo_jax", "envs") for path in (ROOT / folder).glob("*.py")
)
MODULES = sorted(path.stem for path in (ROOT / "ppo_jax").glob("*.py"))

# The core, module by module: what each may import of ppo_jax.
CORE = {
    "types": set(),
    "options": set(),
    "distributions": {"types"},
    "normalization": {"types"},
    "advantages": {"types"},
    "optimizers": {"types"},
    "pbt": {"types", "options"},
    "losses": {"types", "distributions", "normalization", "advantages", "optimizers"},
}
CORE["networks"] = CORE["losses"] | {"losses", "options"}
CORE["ppo"] = CORE["networks"] | {"networks"}
CORE["rollout"] = CORE["ppo"] | {"ppo"}
CORE["training"] = CORE["rollout"] | {"rollout"}
CORE["evaluation"] = CORE["training"] | {"training"}
CORE["config"] = CORE["ppo"] | {"ppo"}

# Modules at the edge: nothing of the core imports them.
EDGE = {
    "checkpoint",
    "cli",
    "config",
    "console",
    "metrics",
    "plots",
    "population",
    "processes",
    "rsl_rl",
    "runner",
    "sweep",
    "sweep_folder",
    "sweep_population",
    "sweep_results",
    "sweep_run",
}

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
    "envs",
    "configs",
}
BY_FLAX = {"rich", "yaml"}  # `import flax` loads these, whatever we do


def imported(path, everywhere=True):
    """Names of all modules that a file imports: "ppo_jax.types", "jax.numpy", ..."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if everywhere else tree.body
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            if node.module == "ppo_jax":  # from ppo_jax import checkpoint
                for alias in node.names:
                    is_module = alias.name in MODULES
                    yield f"ppo_jax.{alias.name}" if is_module else "ppo_jax"
            else:
                yield node.module


def own(path):
    """Modules of ppo_jax that a file imports, "" for the package itself."""
    for name in imported(path):
        package, _, module = name.partition(".")
        if package == "ppo_jax":
            yield module


@pytest.mark.parametrize("module", CORE)
def test_a_module_of_the_core_imports_only_what_is_below_it(module):
    above = set(own(ROOT / "ppo_jax" / f"{module}.py")) - CORE[module]
    assert not above


@pytest.mark.parametrize("module", [*CORE, "rsl_rl", "checkpoint", "metrics"])
def test_nothing_below_imports_the_edge(module):
    allowed = {"rsl_rl": {"config"}}.get(module, set())
    assert not set(own(ROOT / "ppo_jax" / f"{module}.py")) & (EDGE - allowed)


def test_every_module_has_its_place():
    assert set(MODULES) - {"__init__"} <= CORE.keys() | EDGE


@pytest.mark.parametrize("module", MODULES)
def test_ppo_jax_imports_neither_torch_nor_environments(module):
    path = ROOT / "ppo_jax" / f"{module}.py"
    packages = {name.partition(".")[0] for name in imported(path)}
    assert not packages & {"torch", "isaaclab", "isaaclab_rl", "envs", "configs"}


@pytest.mark.parametrize("module", MODULES)
def test_what_is_heavy_is_imported_where_it_is_used(module):
    """Not at the top of a module."""
    path = ROOT / "ppo_jax" / f"{module}.py"
    packages = {name.partition(".")[0] for name in imported(path, everywhere=False)}
    assert not packages & HEAVY


@pytest.mark.parametrize(
    "path", sorted((ROOT / "envs").glob("*.py")), ids=lambda path: path.stem
)
def test_environments_know_the_vocabulary_only(path):
    assert set(own(path)) <= {"types", "options"}


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

    yield from visit(ast.parse(path.read_text()))


@pytest.mark.parametrize(
    "path", PRODUCT, ids=lambda path: f"{path.parent.name}.{path.stem}"
)
def test_no_array_is_made_at_import(path):
    """It would start the backend before Isaac's launcher and before XLA's settings."""
    made = [
        call
        for call in calls_at_import(path)
        if call.partition(".")[0] in ("jnp", "jax", "lax") and call != "jax.jit"
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


def test_importing_ppo_jax_loads_nothing_heavy_and_starts_no_backend():
    loaded = python(
        "import sys, ppo_jax\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge._backends, 'a backend was started'\n"
        "print(*{name.partition('.')[0] for name in sys.modules})\n"
    )
    assert "ppo_jax" in loaded
    assert not set(loaded) & (HEAVY - BY_FLAX)


def test_importing_every_module_starts_no_backend():
    modules = [f"ppo_jax.{name}" for name in MODULES if name != "__init__"]
    loaded = python(
        "import sys, importlib\n"
        f"for name in {[*modules, 'envs', 'envs.task']}:\n"
        "    importlib.import_module(name)\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge._backends, 'a backend was started'\n"
        "print(*sys.modules)\n"
    )
    assert set(modules) <= set(loaded)
    packages = {name.partition(".")[0] for name in loaded}
    assert not packages & (HEAVY - BY_FLAX - {"envs"})
