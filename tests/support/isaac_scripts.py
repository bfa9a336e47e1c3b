"""How tests run the scripts on the real Isaac Lab: as processes, on a CPU."""

import running

TASK = "Isaac-Cartpole-Direct"
SMALL = ("--task", TASK, "--device", "cpu", "--headless")
MINUTES = 240  # s, of one process: the first ever compiles the simulator's kernels


def call(home, script, *argv, expected=0, fresh=False):
    """Runs a script to its end; returns its stdout and stderr."""
    process = running.start(home, str(running.ROOT / script), *argv, fresh=fresh)
    code, out, err = running.finish(process, MINUTES)
    assert code == expected, (code, out, err[-3000:])
    return out, err
