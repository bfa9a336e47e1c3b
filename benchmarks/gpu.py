"""What only a GPU can show: checks of both drivers, and how fast all is there.

    uv run --python 3.12 --extra isaaclab --extra cuda benchmarks/gpu.py
    JAX_PLATFORMS=cpu uv run --python 3.12 --extra isaaclab benchmarks/gpu.py --small

Less than eight minutes on one card. Every section is a process of its own with a time
limit; one that fails is named at the end, and the others go on. What only checks runs
at once, what is timed one after another. The result replaces the last part of
docs/gpu.md; with `--small` everything is tiny and nothing is written, so that any
machine shows whether this script still runs.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from gpu_checks import (
    SECONDS,
    calls,
    drivers_direct,
    drivers_manager,
    machine,
    tests,
)
from gpu_speed import host_time, isaac_lab, native, update

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
PAGE = HERE.parent / "docs" / "gpu.md"
MARK = "<!-- benchmarks/gpu.py writes what follows -->"
RESULT = "section's lines "


def main() -> int:
    args = parse()
    if args.section:
        lines = SECTIONS[args.section](args.small)
        print(f"\n{RESULT}{json.dumps(lines)}", flush=True)
        sys.stdout.flush()
        os._exit(0)  # a simulator may not end by itself
    started, page, failed = time.perf_counter(), [], []
    for name, lines in run_sections(args.only or list(SECTIONS), args.small):
        failed += [name] * (lines is None)
        section = ["", f"### {name}", "", *(lines or ["failed"])]
        print("\n".join(section), flush=True)
        page += section
    print(f"\n{time.perf_counter() - started:.0f} s in all; failed: {failed or 'none'}")
    if not args.small and not args.only:
        kept = PAGE.read_text().partition(MARK)[0]
        PAGE.write_text("\n".join([kept + MARK, *page]) + "\n")
        print(f"wrote {PAGE}")
    return 1 if failed else 0


def run_sections(
    names: list[str], small: bool
) -> Iterator[tuple[str, list[str] | None]]:
    """Yields each section's name and lines, those of `CHECKS` first."""
    checks = [name for name in names if name in CHECKS]
    with ThreadPoolExecutor(1 if small else max(1, len(checks))) as pool:
        found = pool.map(partial(run_section, small=small), checks)
        yield from zip(checks, found, strict=True)
    for name in names:
        if name not in CHECKS:
            yield name, run_section(name, small)


def run_section(name: str, small: bool) -> list[str] | None:
    """Returns the lines of a section, or None if it failed."""
    words = [sys.executable, __file__, "--section", name, *["--small"] * small]
    environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "OMP_NUM_THREADS": "1"}
    environment["ISAACSIM_ASSET_ROOT"] = str(HERE.parent / "tests/data/isaac_assets")
    if name.startswith("drivers"):  # two programs, and the same products in both
        environment["XLA_FLAGS"] = "--xla_gpu_autotune_level=0"
    try:
        done = subprocess.run(
            words,
            env=environment | os.environ,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        print(f"{name}: more than {SECONDS} s")
        return None
    for line in done.stdout.splitlines():
        if line.startswith(RESULT):
            return json.loads(line.removeprefix(RESULT))
    print(f"{name} failed:\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}")
    return None


SECTIONS: dict[str, Callable[[bool], list[str]]] = {
    "machine": machine,
    "calls": calls,
    "tests": tests,
    "drivers_direct": drivers_direct,
    "drivers_manager": drivers_manager,
    "isaac_lab": isaac_lab,
    "host_time": host_time,
    "update": update,
    "native": native,
}
CHECKS = ("calls", "tests", "drivers_direct", "drivers_manager")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", action="store_true", help="tiny, and write nothing")
    parser.add_argument("--only", nargs="*", choices=SECTIONS, help="these sections")
    parser.add_argument("--section", choices=SECTIONS, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
