"""Pictures show the state, perspective is right, videos can be read back."""

import subprocess
import sys

import imageio.v3 as iio
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ppo_jax.envs import drawing, painting
from ppo_jax.envs.cartpole import Cartpole, CartpoleState
from ppo_jax.envs.franka_lift import FrankaLift
from ppo_jax.envs.franka_reach import FrankaReach
from ppo_jax.envs.painting import Label, Scene, Shape, painter, rgb
from ppo_jax.envs.recall import Recall
from ppo_jax.envs.video import write_video

KEY = jax.random.key(0)
TASKS = [
    Cartpole(),
    FrankaReach(),
    FrankaReach(orientation=True),
    Recall(),
    FrankaLift(),
]


def make_view():
    return drawing.look(
        eye=(0.0, -4.0, 0.0), target=(0.0, 0.0, 0.0), field_of_view=60.0
    )


def area(outline):
    x, y = outline.T
    return 0.5 * np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))


def place_of(image, color):
    """Returns the mean column and row of a colour, as fractions of the picture."""
    close = np.abs(image - 255 * np.array(rgb(color))).max(axis=-1) < 24
    rows, columns = np.nonzero(close)
    return columns.mean() / image.shape[1], rows.mean() / image.shape[0]


@pytest.mark.parametrize("task", TASKS, ids=repr)
@pytest.mark.parametrize("size", [(480, 360), (320, 300)], ids=["480x360", "320x300"])
def test_picture_has_the_size_asked_for_and_differs_between_states(task, size):
    first, second = (
        drawing.picture(task, task.reset(jax.random.key(seed)), size) for seed in (0, 3)
    )
    assert first.shape == (size[1], size[0], 3)
    assert first.dtype == np.uint8
    changed = (first != second).any(axis=-1).mean()
    assert 0.002 < changed < 0.5


def test_picture_is_a_function_of_the_state_and_owns_its_pixels():
    task, state = TASKS[-1], TASKS[-1].reset(KEY)
    first, second = (drawing.picture(task, state) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.flags.owndata and first.flags.writeable


def test_caption_appears_at_the_bottom_only():
    task, state = TASKS[0], TASKS[0].reset(KEY)
    plain = drawing.picture(task, state)
    titled = drawing.picture(task, state, caption="t = 1.20 s")
    changed = (plain != titled).any(axis=-1)
    assert changed[-60:].any()
    assert not changed[:-60].any()


def test_cart_is_painted_where_it_is_and_a_positive_angle_leans_left():
    def image(x, angle):
        state = CartpoleState(*(np.float32(v) for v in (x, angle, 0.0, 0.0)))
        return drawing.picture(TASKS[0], state)

    left, right = (place_of(image(x, 0.0), drawing.BLUE)[0] for x in (-2.0, 2.0))
    np.testing.assert_allclose([left, right], [0.5 - 0.306, 0.5 + 0.306], atol=0.01)
    leaning, _ = place_of(image(0.0, 0.5), drawing.ORANGE)
    assert leaning < 0.49
    _, upright = place_of(image(0.0, 0.0), drawing.ORANGE)
    _, hanging = place_of(image(0.0, np.pi), drawing.ORANGE)
    assert upright < hanging - 0.1


def test_lift_shows_a_raised_cube_higher():
    task, state = TASKS[-1], TASKS[-1].reset(KEY)
    low, high = (
        place_of(
            drawing.picture(
                task, state._replace(cube_position=jnp.float32([0.6, -0.2, z]))
            ),
            drawing.ORANGE,
        )[1]
        for z in (0.03, 0.2)
    )
    assert high < low - 0.05


# The eye is 4 m before the origin, along y; half of 60 degrees: zoom 1 / tan 30.
@pytest.mark.parametrize(
    ("point", "place", "depth"),
    [
        ((0.0, 0.0, 0.0), (0.0, 0.0), 4.0),
        ((1.0, 0.0, 0.0), (np.sqrt(3) / 4, 0.0), 4.0),
        ((0.0, 0.0, 1.0), (0.0, np.sqrt(3) / 4), 4.0),
        ((1.0, 4.0, 0.0), (np.sqrt(3) / 8, 0.0), 8.0),
    ],
)
def test_projection_matches_hand_arithmetic(point, place, depth):
    xy, distance = drawing.project(make_view(), point)
    np.testing.assert_allclose(xy, place, atol=1e-12)
    np.testing.assert_allclose(distance, depth)


SQUARE = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])


@pytest.mark.parametrize("size", [(400, 300), (300, 600)])
def test_a_scene_keeps_its_scale_in_any_picture(size):
    """A square of 1 in 4 units: a quarter of the height, in both directions."""
    image = painter(size)(Scene([Shape(SQUARE, "#ff0000")], height=4.0))
    rows, columns = np.nonzero((image == (255, 0, 0)).all(axis=-1))
    quarter = size[1] / 4
    for places, middle in ((rows, size[1] / 2), (columns, size[0] / 2)):
        assert abs(np.ptp(places) + 1 - quarter) <= 2
        assert abs(places.mean() - middle) <= 1


def test_what_stands_still_is_painted_once(monkeypatch):
    """And the pictures are those of a painter that begins anew."""
    task = Cartpole()
    states = [task.reset(jax.random.key(seed)) for seed in range(3)]
    alone = [drawing.picture(task, state) for state in states]
    painted = []
    paint = painting._paint_shapes
    monkeypatch.setattr(
        painting, "_paint_shapes", lambda *x: painted.append(x[2]) or paint(*x)
    )
    together = list(drawing.pictures(task, [(state, "") for state in states]))
    np.testing.assert_array_equal(alone, together)
    still = task.scene(states[0]).still
    assert [shapes is still for shapes in painted] == [True, *[False] * 3]


def test_another_background_is_painted_anew():
    red, blue = ([Shape(SQUARE * 9, color)] for color in ("#ff0000", "#0000ff"))
    paint = painter((20, 20))
    seen = [paint(Scene([], still=still))[10, 10] for still in (red, blue, red)]
    np.testing.assert_array_equal(seen, [(255, 0, 0), (0, 0, 255), (255, 0, 0)])


def test_a_translucent_shape_is_blended():
    """Half of white over black is 128."""
    black = Shape(SQUARE * 9, "#000000", depth=1.0)
    half = Shape(SQUARE * 9, "#ffffff", alpha=0.5)
    image = painter((20, 20))(Scene([half, black]))
    assert abs(image.astype(int) - 128).max() <= 1


def test_text_stands_where_it_is_asked_for():
    image = painter((200, 100))(Scene([], [Label("xx", 0.25, 0.75, size=60)]))
    rows, columns = np.nonzero((image < 128).all(axis=-1))
    assert abs(columns.mean() - 50) < 5 and abs(rows.mean() - 25) < 5


def test_nearer_things_are_painted_over_farther_ones():
    view = make_view()
    shapes = []
    for y, color in ((-1.0, "#00ff00"), (1.0, "#ff0000")):
        shapes += drawing.box(view, (0.0, y, 0.0), np.eye(3), (0.1,) * 3, color)
    for order in (shapes, shapes[::-1]):
        middle = painter((60, 60))(Scene(order))[30, 30]
        assert middle[1] > 150 and middle[0] < 60


def test_box_shows_only_the_faces_that_look_at_the_eye():
    view = make_view()
    front = drawing.box(view, (0.0, 0.0, 0.0), np.eye(3), (0.1,) * 3, "#ff0000")
    corner = drawing.box(view, (1.0, 0.0, -1.0), np.eye(3), (0.1,) * 3, "#ff0000")
    assert (len(front), len(corner)) == (1, 3)


class Plotted:
    """A task of one's own that draws with matplotlib."""

    def draw(self, state, figure):
        figure.add_axes((0, 0, 1, 1)).plot([0, 1], [0, state], color="red", lw=5)


def test_a_task_may_draw_with_matplotlib():
    low, high = drawing.pictures(Plotted(), [(0.0, "a"), (1.0, "a")], (320, 200))
    assert low.shape == (200, 320, 3)
    assert (low != high).any()


@pytest.mark.parametrize(
    ("b", "radius_b", "expected"),
    [
        ((3.0, 4.0), 1.0, np.pi + 10.0),  # a stadium: circle and 5 x 2
        ((2.0, 0.0), 0.1, 4.0132),  # angle acos 0.45, tangents of sqrt(4 - 0.81)
        ((0.0, 0.0), 1.0, np.pi),  # one circle
        ((0.5, 0.0), 0.2, np.pi),  # the second lies inside the first
        ((0.2, 0.0), 2.0, 4 * np.pi),  # the first inside the second
    ],
)
def test_outline_of_two_circles_encloses_their_hull(b, radius_b, expected):
    outline = drawing._hull_of_circles(np.zeros(2), 1.0, np.array(b), radius_b)
    np.testing.assert_allclose(area(outline), expected, rtol=0.015)


FRAMES = [np.full((36, 48, 3), 20 * i, np.uint8) for i in range(8)]


def test_mp4_keeps_size_number_rate_and_brightness_of_frames(tmp_path):
    path = tmp_path / "video.mp4"
    write_video(path, iter(FRAMES), fps=25)
    frames = iio.imread(path)
    assert frames.shape == (8, 36, 48, 3)
    np.testing.assert_allclose(frames.mean(axis=(1, 2, 3)), 20.0 * np.arange(8), atol=4)
    assert iio.immeta(path)["fps"] == 25


def test_gif_keeps_size_number_and_rate_of_frames(tmp_path):
    path = tmp_path / "video.GIF"
    write_video(path, FRAMES, fps=20)
    with Image.open(path) as image:
        assert image.size == (48, 36)
        assert image.n_frames == 8
        assert image.info["duration"] == 50
        assert image.info["loop"] == 0


@pytest.mark.parametrize("name", ["video.avi", "video"])
def test_unknown_format_is_an_error_that_names_file_and_fix(tmp_path, name):
    with pytest.raises(ValueError, match=rf"{name}'.*\.mp4 or \.gif"):
        write_video(tmp_path / name, FRAMES, fps=25)


def test_a_video_without_frames_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no frames"):
        write_video(tmp_path / "video.mp4", [], fps=25)


@pytest.mark.slow
def test_importing_the_tasks_loads_no_matplotlib_and_starts_no_backend():
    code = (
        "import sys\n"
        "from ppo_jax.envs import cartpole, franka_lift, franka_reach\n"
        "from jax._src.xla_bridge import backends_are_initialized\n"
        "assert not {'matplotlib', 'imageio', 'mujoco', 'PIL'} & set(sys.modules)\n"
        "assert not backends_are_initialized()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
