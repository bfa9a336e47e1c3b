#!/usr/bin/env bash
# A folder that a link brings into a package is in the wheel of a checkout, and not in the wheel of its source distribution.
#
# Seen with hatchling 1.33.0 and build 1.6.1. A package `pkg` has a link `pkg/envs -> ../envs`. The wheel that is built
# from the checkout follows it. The source distribution meets `envs` first, at the top, takes what the link leads to for a repetition,
# and leaves it out without a word: neither a link nor files. `python -m build` makes the wheel out of the source
# distribution, so what is published cannot import `pkg.envs`, and what is tried in the checkout can.
#
# Output seen:
#     hatchling 1.33.0
#     source distribution: envs/__init__.py, pkg/__init__.py
#     wheel of the checkout: pkg/__init__.py, pkg/envs/__init__.py
#     wheel of the source distribution: pkg/__init__.py
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.12}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet hatchling==1.33.0 build==1.6.1
mkdir -p "$folder/project/pkg" "$folder/project/envs"
cd "$folder/project"
touch pkg/__init__.py envs/__init__.py
ln -s ../envs pkg/envs
cat >pyproject.toml <<'TOML'
[build-system]
requires = ["hatchling==1.33.0"]
build-backend = "hatchling.build"

[project]
name = "pkg"
version = "1"

[tool.hatch.build.targets.wheel]
packages = ["pkg"]
TOML
python="$folder/venv/bin/python"
"$python" -m build --no-isolation --outdir "$folder/checkout" --wheel . >/dev/null 2>&1
"$python" -m build --no-isolation --outdir "$folder/published" . >/dev/null 2>&1 # the archive, then a wheel out of it
cat >"$folder/look.py" <<'PY'
import sys
import tarfile
import zipfile
from importlib.metadata import version
from pathlib import Path

folder = Path(sys.argv[1])


def sources(names):
    return sorted(name.removeprefix("pkg-1/") for name in names if name.endswith(".py"))


def wheel(place):
    (path,) = (folder / place).glob("*.whl")
    return sources(zipfile.ZipFile(path).namelist())


(archive,) = (folder / "published").glob("*.tar.gz")
found = {
    "source distribution": sources(tarfile.open(archive).getnames()),
    "wheel of the checkout": wheel("checkout"),
    "wheel of the source distribution": wheel("published"),
}
print(f"hatchling {version('hatchling')}")
for name, files in found.items():
    print(f"{name}: {', '.join(files)}")
assert found == {
    "source distribution": ["envs/__init__.py", "pkg/__init__.py"],
    "wheel of the checkout": ["pkg/__init__.py", "pkg/envs/__init__.py"],
    "wheel of the source distribution": ["pkg/__init__.py"],
}, "this has changed"
PY
"$python" "$folder/look.py" "$folder"
