"""The viewer: a real server, and somebody who has opened its page."""

import re
import shutil
import signal

import pytest
import running

from ppo_jax.cli import play, tasks, viewer
from ppo_jax.cli.viewer_page import Wishes
from ppo_jax.runs import checkpoint, folders

pytest.importorskip("viser", reason="needs the extra viewer")
from viser_client import Client

CART = "/solids/cart"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of which only the first checkpoint is there yet; `later` has the second."""
    home = tmp_path_factory.mktemp("viewer")
    run = home / folders.LOG_ROOT / "Cartpole" / "run"
    shutil.copytree(running.tiny_run(), run)
    checkpoint.path_of(run, 2).rename(run / "later")
    return run


@pytest.fixture(scope="module")
def viewing(run):
    """play.py --viewer as a process, what it said, and somebody who looks at it."""
    port = running.free_port()
    argv = ("--viewer", f"--port={port}", "--num_envs=3")
    process = running.start(run.parents[3], running.ROOT / "play.py", *argv)
    said = [process.stdout.readline(), process.stdout.readline()]
    assert said[1] == f"Viewer: http://localhost:{port} (Ctrl-C ends it)\n", (
        said + process.stderr.readlines()
    )
    with Client(port) as client:
        yield process, port, client
    process.kill()


@pytest.fixture
def paused(viewing):
    """The page while nothing moves, as it was left afterwards."""
    client = viewing[2]
    client.press("Pause")
    client.wait_for(lambda: "paused" in client.text())  # and nothing is on its way
    yield client
    client.press("Play")
    client.wait_for(lambda: "paused" not in client.text())


def seconds(client):
    """Returns for how long the episode has been going on."""
    return float(client.fact("time").split()[0])


def moves(client):
    before = client.place(CART)
    client.wait_for(lambda: client.place(CART) != before)


@pytest.mark.slow
def test_the_page_says_what_plays_and_the_robot_moves(viewing):
    _, _, client = viewing
    client.wait_for(lambda: CART in client.nodes)
    moves(client)
    client.wait_for(lambda: "pole upright" in client.text())
    assert "<b>iteration 1</b>" in client.text()
    assert "Cartpole/run" in client.text()


@pytest.mark.slow
def test_pause_stops_it_and_a_step_is_one(paused):
    """A step is 1/60 s: the cart then is where its speed takes it, and stays there."""
    before = seconds(paused)
    place = paused.place(CART)
    paused.press("One step")
    paused.wait_for(lambda: paused.place(CART) != place)
    place = paused.place(CART)
    paused.set("dark", True)  # anything that the page answers
    paused.wait_for(lambda: paused.is_dark)
    assert paused.place(CART) == place
    assert 0 <= seconds(paused) - before < 0.11


@pytest.mark.slow
def test_another_environment_is_another_cart(paused):
    places = {0: paused.place(CART)}
    for index in (1, 2, 0):
        before = paused.place(CART)
        paused.set("environment", index)
        paused.wait_for(lambda before=before: paused.place(CART) != before)
        places.setdefault(index, paused.place(CART))
    assert len(set(places.values())) == 3
    assert paused.place(CART) == places[0]


@pytest.mark.slow
def test_restart_begins_new_episodes(paused):
    place = paused.place(CART)
    paused.press("Restart")
    paused.wait_for(lambda: paused.place(CART) != place)
    paused.wait_for(lambda: seconds(paused) == 0)


@pytest.mark.slow
def test_who_comes_later_sees_the_same(viewing, paused):
    place = paused.place(CART)
    with Client(viewing[1]) as other:
        other.wait_for(lambda: CART in other.nodes and other.place(CART) == place)


@pytest.mark.slow
def test_what_is_learned_meanwhile_is_played(viewing, run):
    process, _, client = viewing
    (run / "later").rename(checkpoint.path_of(run, 2))
    client.wait_for(lambda: "<b>iteration 2</b>" in client.text())
    assert process.stdout.readline() == "Iteration 2.\n"
    moves(client)


def test_what_cannot_be_read_is_not_played(tmp_path):
    """A damaged checkpoint is none, and the one before it is no news."""
    run = shutil.copytree(running.tiny_run(), tmp_path / "run")
    newer = viewer.newer_in(tasks.make_trainer(folders.load_config(run), 2), run)
    assert int(newer(1).iteration) == 2
    assert newer(2) is None
    shutil.copytree(checkpoint.path_of(run, 2), checkpoint.path_of(run, 3))
    assert newer(2) is None  # it is called 3, and says 2


@pytest.fixture(scope="module")
def browser():
    """A headless browser with WebGL."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    gl = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with api.sync_playwright() as playwright:
        for path in (None, shutil.which("chromium"), shutil.which("google-chrome")):
            try:
                chromium = playwright.chromium.launch(executable_path=path, args=gl)
            except api.Error:
                continue
            yield chromium
            chromium.close()
            return
        pytest.skip("needs a browser: playwright install chromium")


@pytest.mark.slow
def test_in_a_browser_it_is_drawn_and_moves(viewing, browser):
    """Pictures differ while it plays, and no longer once its button is pressed."""
    page = browser.new_page(viewport={"width": 900, "height": 600})
    page.goto(f"http://localhost:{viewing[1]}")
    page.get_by_text("pole upright").wait_for(timeout=60_000)
    canvas = {"x": 0, "y": 220, "width": 560, "height": 300}

    def picture():
        return page.screenshot(clip=canvas)

    def moves():
        before = picture()
        return any(picture() != before for _ in range(20))

    assert moves()
    page.get_by_role("button", name="Pause").click()
    page.get_by_text("paused").wait_for()
    page.wait_for_timeout(500)
    assert picture() == picture()
    page.get_by_role("button", name="Play").click()
    assert moves()
    page.close()


@pytest.mark.slow
def test_a_port_that_is_taken_is_said(viewing, run, monkeypatch, capsys):
    _, port, _ = viewing
    monkeypatch.chdir(run.parents[3])
    assert running.call(play, "--viewer", f"--port={port}") == 2
    said = capsys.readouterr().err
    assert f"--port {port} cannot be used (Address already in use)" in said
    assert f"--port {port + 1}" in said


@pytest.mark.slow
def test_ctrl_c_ends_it(viewing):
    """The last test of this page."""
    process, port, _ = viewing
    process.send_signal(signal.SIGINT)
    code, out, err = running.finish(process)
    assert (code, out, err) == (0, "", "")
    with pytest.raises(OSError, match=r"refused|reset"):
        Client(port)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--port=80"], "--port is that of the page of --viewer"),
        (["--viewer", "--port=0"], "--port 0: give a number from 1 to 65535"),
        (["--viewer", "--video=x.mp4"], "--viewer has no use for video"),
        (["--viewer"], "holds no run with a checkpoint: train first"),
    ],
)
def test_a_mistake_is_a_sentence(argv, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert running.call(play, *argv) == 2
    assert message in capsys.readouterr().err


def test_without_viser_it_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setattr(viewer, "find_spec", lambda name: None)
    assert running.call(play, "--viewer") == 2
    assert "--viewer needs viser: uv run --extra viewer" in capsys.readouterr().err


def test_a_task_that_is_not_in_space_is_said():
    with pytest.raises(ValueError, match="mine does not tell what it looks like in sp"):
        viewer.scene_of(object(), "mine", None)


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class Nothing:
    """A page, a scene and a policy in one: it counts steps."""

    is_watched, step_dt, env_state = True, 0.02, None

    def __init__(self):
        self.steps, self.iteration, self.set = 0, 0, Wishes(False, 1.0, 0, 0, 0)

    def wishes(self):
        return self.set

    def newer(self, iteration):
        return None

    def begin(self, seed):
        self.begun = seed
        return self

    def advance(self, learned, moment):
        self.steps += 1
        return moment, None

    def __getattr__(self, name):
        assert re.match("show|forget", name), name
        return lambda *_: None


@pytest.mark.parametrize(("speed", "steps"), [(1.0, 500), (0.1, 50), (4.0, 2000)])
def test_time_passes_as_fast_as_is_wished(monkeypatch, speed, steps):
    """10 s of steps of 20 ms, whatever the rate of the pictures."""
    clock, nothing = Clock(), Nothing()
    monkeypatch.setattr(viewer, "time", clock)
    monkeypatch.setattr(viewer, "facts_of", lambda *_: {})
    nothing.set = nothing.set._replace(speed=speed)
    show = viewer.Show(nothing, nothing, nothing, nothing, seed=3)
    while clock.now < 10:
        show.turn()
    assert abs(nothing.steps - steps) <= 0.04 * steps
    assert nothing.begun == 3


def test_where_nobody_looks_nothing_is_played(monkeypatch):
    clock, nothing = Clock(), Nothing()
    monkeypatch.setattr(viewer, "time", clock)
    monkeypatch.setattr(viewer, "facts_of", lambda *_: {})
    nothing.is_watched = False
    show = viewer.Show(nothing, nothing, nothing, nothing, seed=3)
    while clock.now < 1:
        show.turn()
    assert nothing.steps == 0
