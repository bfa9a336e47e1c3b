"""Stands for `subprocess` where a command starts itself again: its children are forked.

A child goes on from what its parent has imported, and runs the words that it was given
as a new interpreter would. No backend may have been started before.
"""

import atexit
import os
import signal
import sys
import threading
import traceback

import launcher

DEVNULL = os.devnull


class Popen:
    """A forked child, with what is used of `subprocess.Popen`."""

    def __init__(self, words, env, stdin, process_group, preexec_fn):
        sys.stdout.flush()
        sys.stderr.flush()
        self.returncode = None
        self.pid = launcher.fork()
        if self.pid:
            return
        try:
            os.setpgid(0, process_group)
            preexec_fn()
            os.dup2(os.open(stdin, os.O_RDONLY), 0)
            os.environ.clear()
            os.environ.update(env)
            run_and_end(words[1:])
        finally:
            os._exit(1)  # never back into what the parent was doing

    def poll(self):
        if self.returncode is None:
            pid, end = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(end)
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def run_and_end(words):
    """Runs `python WORDS`, and ends this process as Python ends."""
    code = 0
    try:
        launcher.run(words)
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
