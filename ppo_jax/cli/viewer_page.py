"""The page of the viewer: what one can set, and what stands beside the picture."""

import html
from collections.abc import Mapping
from typing import Any, NamedTuple

SPEEDS = (0.1, 4.0)
SMOOTHING = 0.15  # of a bar towards the newest value, per picture
GOOD, BAD = "#3a9d5d", "#d1495b"
FADED = "color-mix(in srgb, currentColor 14%, transparent)"


class Wishes(NamedTuple):
    """What somebody has set on the page."""

    paused: bool
    speed: float  # 1: as fast as in the world
    env_index: int
    steps: int  # pressed so often since the page was opened: one step while paused
    restarts: int  # likewise: all episodes from their start


class Page:
    """Controls and numbers on a page of viser; one for all who look at it."""

    def __init__(
        self, server: Any, task: str, num_envs: int, source: str, note: str = ""
    ) -> None:
        """Puts the controls up.

        Args:
          server: of viser.
          task: its name.
          num_envs: N, of which one is looked at.
          source: of the policy.
          note: on where the next one comes from.
        """
        self._server, gui = server, server.gui
        self._paused, self._steps, self._restarts = False, 0, 0
        self._bars: dict[str, float] = {}  # {term: what its bar shows}
        self._longest, self._source, self._note = 0.0, source, note
        gui.set_panel_label(task)
        self._dress(dark=False)
        self._policy = gui.add_html("")
        self._pause = gui.add_button("Pause", icon="player-pause")
        self._step = gui.add_button(
            "One step", icon="player-track-next", disabled=True, color="gray"
        )
        restart = gui.add_button("Restart", icon="reload", color="gray")
        slowest, fastest = SPEEDS
        self._speed = gui.add_slider("speed", slowest, fastest, 0.1, 1.0)
        self._env = gui.add_slider(
            "environment",
            0,
            max(num_envs - 1, 1),
            1,
            0,
            disabled=num_envs == 1,
        )
        dark = gui.add_checkbox("dark", False)
        with gui.add_folder("Episode"):
            self._episode = gui.add_html("")
        with gui.add_folder("Reward per second"):
            self._reward = gui.add_html("")
        self._pause.on_click(lambda _: self._toggle())
        self._step.on_click(lambda _: self._count("_steps"))
        restart.on_click(lambda _: self._count("_restarts"))
        dark.on_update(lambda _: self._dress(dark.value))

    def wishes(self) -> Wishes:
        """Returns what is set now."""
        return Wishes(
            self._paused,
            float(self._speed.value),
            int(self._env.value),
            self._steps,
            self._restarts,
        )

    @property
    def is_watched(self) -> bool:
        """Whether somebody has opened it."""
        return bool(self._server.get_clients())

    def show_iteration(self, iteration: int) -> None:
        """Says after how many iterations of learning the policy plays."""
        self._policy.content = _block(
            f"<b>iteration {iteration}</b><br>{_small(self._source)}"
            f"<br><span style='opacity:0.65'>{html.escape(self._note)}</span>"
        )

    def show_episode(self, facts: Mapping[str, str]) -> None:
        """Shows some lines on the episode."""
        rows = "".join(
            f"<tr><td style='opacity:0.65;padding-right:1em'>{html.escape(name)}</td>"
            f"<td>{html.escape(value)}</td></tr>"
            for name, value in facts.items()
        )
        self._episode.content = _block(f"<table>{rows}</table>")

    def show_reward(self, terms: Mapping[str, float]) -> None:
        """Moves a bar for each term towards what it is now; from the middle, 0."""
        before = self._bars
        self._bars = {
            name: before.get(name, value)
            + SMOOTHING * (value - before.get(name, value))
            for name, value in terms.items()
        }
        longest = max(map(abs, self._bars.values()), default=0.0)
        self._longest = max(longest, 0.99 * self._longest, 1e-9)
        rows = (_bar(name, x, x / self._longest) for name, x in self._bars.items())
        self._reward.content = _block("".join(rows))

    def forget_reward(self) -> None:
        """Lets the bars begin anew: what comes is of another environment."""
        self._bars, self._longest = {}, 0.0

    def _toggle(self) -> None:
        self._paused = not self._paused
        self._pause.label = "Play" if self._paused else "Pause"
        self._pause.icon = "player-play" if self._paused else "player-pause"
        self._step.disabled = not self._paused

    def _count(self, name: str) -> None:
        setattr(self, name, getattr(self, name) + 1)

    def _dress(self, dark: bool) -> None:
        self._server.gui.configure_theme(
            control_layout="collapsible",
            dark_mode=dark,
            show_logo=False,
            show_share_button=False,
        )


def _bar(name: str, value: float, length: float) -> str:
    """Returns a term as its name, its value and a bar from the middle.

    Args:
      name: of the term.
      value: per second.
      length: of the bar, in [-1, 1].
    """
    width, color = 50 * abs(length), GOOD if value >= 0 else BAD
    left = 50 if value >= 0 else 50 - width
    line, within = "display:flex;justify-content:space-between;gap:1em", "height:100%"
    track = f"position:relative;height:6px;border-radius:3px;background:{FADED}"
    filled = f"position:absolute;left:{left:.1f}%;width:{width:.1f}%;{within}"
    middle = f"position:absolute;left:50%;width:1px;{within};opacity:0.5"
    return (
        "<div style='margin:0.35em 0'>"
        f"<div style='{line}'><span>{html.escape(name.replace('_', ' '))}</span>"
        f"<span style='font-variant-numeric:tabular-nums'>{value:+.3g}</span></div>"
        f"<div style='{track}'>"
        f"<div style='{filled};border-radius:3px;background:{color}'></div>"
        f"<div style='{middle};background:currentColor'></div></div></div>"
    )


def _block(content: str) -> str:
    return f"<div style='padding:0 1em 0.5em;font-size:0.875em'>{content}</div>"


def _small(text: str) -> str:
    return f"<span style='opacity:0.65;word-break:break-all'>{html.escape(text)}</span>"
