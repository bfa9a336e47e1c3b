"""`play.py --viewer`: a policy at play on a page in the browser, while it learns."""

import contextlib
import io
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ppo_jax.cli.viewer_page import Page

if TYPE_CHECKING:
    from ppo_jax.loops.playing import Moment, Reward

HOST, PORT = "localhost", 8080
NUM_ENVS = 8  # if nobody says how many
PICTURES = 30.0  # per second
LOOK_FOR_NEW = 1.0  # seconds until one looks for another checkpoint
FOLLOWED = "and later ones, as they are saved"
LONGEST = 0.1  # seconds of a picture that are made up for: it may be slow, not jump


class Scene(Protocol):
    """What one sees of environments, each kind in its own way."""

    def show(self, env_state: Any, env_index: int) -> None:
        """Shows one environment as it is now."""
        ...

    def terms(self, env_index: int) -> dict[str, float]:
        """Returns of what its last reward consisted, per second; {}: not told here."""
        ...


class Playing(NamedTuple):
    """A policy and its environments, bound to each other."""

    begin: Callable[[int], "Moment"]  # (seed) -> all episodes at their start
    advance: Callable[[Any, "Moment"], "tuple[Moment, Reward]"]  # (learned, before)
    newer: Callable[[int], Any]  # (iteration) -> learned later than that, or None
    step_dt: float  # s


class Show:
    """A policy at play: what is wished on the page is done, and what happens shown."""

    def __init__(
        self, playing: Playing, learned: Any, scene: Scene, page: Page, seed: int
    ) -> None:
        """Shows all environments at the start of an episode."""
        self._playing, self._scene, self._page, self._seed = playing, scene, page, seed
        self._learned, self._iteration = learned, int(learned.iteration)
        self._wishes = page.wishes()
        self._debt = 0.0  # steps that are due
        self._then = self._looked = time.monotonic()
        self._restart()
        page.show_iteration(self._iteration)
        self._show()

    def turn(self) -> None:
        """Does what is due now, and shows it; takes the time of a picture."""
        now, before = time.monotonic(), self._wishes
        elapsed, self._then = min(now - self._then, LONGEST), now
        self._wishes = wishes = self._page.wishes()
        if now - self._looked > LOOK_FOR_NEW:
            self._look_for_newer()
        if wishes.restarts != before.restarts:
            self._restart()
        if wishes.env_index != before.env_index:
            self._page.forget_reward()
        steps = wishes.steps - before.steps
        if not wishes.paused and self._page.is_watched:
            self._debt += elapsed * wishes.speed / self._playing.step_dt
            steps, self._debt = int(self._debt), self._debt % 1.0
        for _ in range(steps):
            how = self._learned, self._moment
            self._moment, self._reward = self._playing.advance(*how)
        if steps or wishes != before:
            self._show()
        time.sleep(max(0.0, now + 1 / PICTURES - time.monotonic()))

    def _restart(self) -> None:
        self._moment = self._playing.begin(self._seed + self._wishes.restarts)
        self._reward = None
        self._page.forget_reward()

    def _look_for_newer(self) -> None:
        self._looked = self._then
        learned = self._playing.newer(self._iteration)
        if learned is not None:
            self._learned, self._iteration = learned, int(learned.iteration)
            self._page.show_iteration(self._iteration)
            print(f"Iteration {self._iteration}.", flush=True)

    def _show(self) -> None:
        index, dt = self._wishes.env_index, self._playing.step_dt
        self._scene.show(self._moment.env_state, index)
        paused = self._wishes.paused
        self._page.show_episode(facts_of(self._moment, index, dt, paused))
        if self._reward is not None:
            rates = rates_of(self._reward, index, dt)
            self._page.show_reward(self._scene.terms(index) or rates)


def require_viser() -> None:
    """Raises ImportError, with the way out, if viser is not installed."""
    if find_spec("viser") is None:
        raise ImportError(
            "--viewer needs viser: uv run --extra viewer play.py --viewer, or "
            "pip install viser"
        )


def free_port(flags: Mapping[str, Any]) -> int:
    """Returns the port of the page.

    Raises:
      ValueError: it is no port, or somebody else listens there.
    """
    text = str(flags.get("port", PORT))
    port = int(text) if text.isdecimal() else 0
    if not 0 < port < 2**16:
        raise ValueError(f"--port {text}: give a number from 1 to 65535")
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((HOST, port))
        except OSError as error:
            raise ValueError(
                f"--port {port} cannot be used ({error.strerror}): end what listens "
                f"there, or give another one, such as --port {port % 65535 + 1}"
            ) from None
    return port


def view(
    trainer: Any, learned: Any, source: Path, follow: bool, port: int, seed: int
) -> None:
    """Plays on a page until SIGINT or SIGTERM comes.

    Args:
      trainer: of the task.
      learned: what plays at first.
      source: the run, or the file, that it is from.
      follow: what the run learns meanwhile is played as soon as it is saved.
      port: of the page.
      seed: of the episodes.

    Raises:
      ValueError: the task cannot be shown.
    """
    from ppo_jax.loops.programs import simulator_errors
    from ppo_jax.runs import signals

    env, task = trainer.env, trainer.config.task
    with open_server(port, task) as server, simulator_errors(env):
        scene = scene_of(env, task, server)
        note = FOLLOWED if follow else ""
        page = Page(server, task, env.num_envs, "/".join(source.parts[-2:]), note)
        newer = newer_in(trainer, source) if follow else lambda _: None
        show = Show(playing_of(trainer, newer), learned, scene, page, seed)
        print(f"Viewer: http://{HOST}:{port} (Ctrl-C ends it)", flush=True)
        with signals.collected() as received:
            while not received:
                show.turn()


@contextmanager
def open_server(port: int, title: str) -> Iterator[Any]:
    """Gives a server of viser, which only this machine reaches."""
    import viser

    silence = partial(contextlib.redirect_stdout, io.StringIO())  # of its greetings
    with silence():
        server = viser.ViserServer(HOST, port, label=title, verbose=False)
    try:
        yield server
    finally:
        with silence():
            server.stop()


def scene_of(env: Any, task: str, server: Any) -> Scene:
    """Returns what draws environments on a page.

    Raises:
      ValueError: they cannot be drawn.
    """
    from ppo_jax.envs.solids import Spatial

    inner = getattr(env, "task", None)  # of environments in JAX
    if isinstance(inner, Spatial):
        from ppo_jax.envs.solid_scene import SolidScene

        return SolidScene(server, inner)
    simulator = getattr(env, "torch_env", None)
    open_scene = getattr(simulator, "open_scene", None)
    if open_scene:
        return open_scene(server)
    raise ValueError(
        f"--viewer: {task} does not tell what it looks like in space: give it "
        "`solids` and `stage` (docs/looking.md), or film it with --video"
    )


def playing_of(trainer: Any, newer: Callable[[int], Any]) -> Playing:
    """Returns a policy and its environments, ready to take steps."""
    import jax

    from ppo_jax.learning.ppo import jitted
    from ppo_jax.loops import playing
    from ppo_jax.types import Simulator

    env, ppo = trainer.env, trainer.ppo
    if isinstance(env, Simulator):  # whose steps stand between programs
        start = partial(playing.begin, jitted(ppo), env)
        advance = partial(playing.advance, jitted(ppo), env, None)
    else:
        terms = getattr(env, "reward_terms", None)
        start = jax.jit(partial(playing.begin, ppo, env))
        advance = jax.jit(partial(playing.advance, ppo, env, terms))
    return Playing(
        lambda seed: start(jax.random.key(seed)), advance, newer, env.step_dt
    )


def newer_in(trainer: Any, folder: Path) -> Callable[[int], Any]:
    """Returns a function that reads what a run has learned after an iteration.

    It returns None if there is nothing, or nothing that can be read; it is not tried
    again until there is another one.
    """
    from ppo_jax.runs import checkpoint, trainers

    tried = 0
    template = cache(lambda: trainers.abstract_run(trainer).train)

    def newer(iteration: int) -> Any:
        nonlocal tried
        newest = max(checkpoint.iterations(folder), default=0)
        if newest <= max(iteration, tried):
            return None
        tried = newest
        try:
            restored = checkpoint.restore_train(folder, template())
        except ValueError:
            return None
        return restored.state if restored.iteration > iteration else None

    return newer


def rates_of(reward: "Reward", env_index: int, dt: float) -> dict[str, float]:
    """Returns what a step paid in one environment, per second, by its terms."""
    terms = reward.terms or {"reward": reward.total}
    return {name: float(x[env_index]) / dt for name, x in terms.items()}


def facts_of(
    moment: "Moment", env_index: int, dt: float, paused: bool
) -> dict[str, str]:
    """Returns what is said of the episode in one environment."""
    import numpy as np

    ended = np.asarray(moment.last_return)
    ended = ended[np.isfinite(ended)]
    seconds = dt * int(moment.episode_length[env_index])
    facts = {
        "time": f"{seconds:.1f} s{', paused' if paused else ''}",
        "return": f"{float(moment.episode_return[env_index]):.3f}",
    }
    if len(ended):
        of = f" (mean of {len(ended)})" if len(ended) > 1 else ""
        facts["last episode"] = f"{ended.mean():.3f}{of}"
    return facts
