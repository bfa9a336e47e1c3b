"""Checkpoints: what is written comes back bit for bit, or is not used at all."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo_jax.loops.episodes import init_episodes
from ppo_jax.runs import arrays, checkpoint, digests
from ppo_jax.types import RunState, TrainState

NUM_ENVS = 3


def make_run(iteration, width=4):
    """A run whose every array depends on the iteration, with all kinds of leaves."""
    weight = jnp.full((2, width), 1.0 / 3.0 + iteration)
    train = TrainState(
        params={"actor": {"kernel": weight}, "critic": {"kernel": -weight}},
        obs_stats={"actor": (), "critic": jnp.array([0.1 * iteration])},
        opt_state=(jnp.int32(iteration), {"mu": weight.astype(jnp.bfloat16)}),
        learning_rate=jnp.float32(1e-3),
        iteration=jnp.int32(iteration),
    )
    return RunState(
        train=train,
        env_state={
            "time": jnp.array([1.0, jnp.inf, 2.0]),
            "key": jax.random.key(5),
            "contact": jnp.zeros((NUM_ENVS, 0, 3), jnp.int16),  # a body without any
        },
        obs={"policy": jnp.ones((NUM_ENVS, 2))},
        carry=(),
        episodes=init_episodes(NUM_ENVS),
        key=jax.random.fold_in(jax.random.key(1), iteration),
    )


def save(folder, iteration, episode_return=None, keep=3):
    meta = {"episode_return": episode_return, "seconds": 0.1 * iteration}
    return checkpoint.save(folder, make_run(iteration), meta, keep)


def template_of(run):
    return jax.eval_shape(lambda: run)


def assert_equal(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert x.dtype == y.dtype
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)


def test_everything_comes_back_bit_for_bit(tmp_path):
    """restore(save(run)) = run, with types, keys, empty parts and meta."""
    path = save(tmp_path, 7, episode_return=1.5)
    restored = checkpoint.restore_run(tmp_path, template_of(make_run(7)))
    assert_equal(restored.state, make_run(7))
    assert restored.iteration == 7
    assert restored.skipped == []
    assert restored.meta["seconds"] == 0.1 * 7
    assert restored.meta["episode_return"] == 1.5
    assert path == tmp_path / "checkpoints" / "7"


def test_what_was_learned_comes_back_without_the_environments(tmp_path):
    """A policy can be played on another number of environments."""
    save(tmp_path, 7)
    restored = checkpoint.restore_train(tmp_path, template_of(make_run(7).train))
    assert_equal(restored.state, make_run(7).train)


def test_newest_and_best_are_kept(tmp_path):
    """Of 6 checkpoints the 2 newest stay, and the one with the best return."""
    for iteration, episode_return in enumerate([None, 3.0, 9.0, 4.0, 5.0, 6.0], 1):
        save(tmp_path, iteration, episode_return, keep=2)
    assert checkpoint.iterations(tmp_path) == [3, 5, 6]
    assert checkpoint.best_iteration(tmp_path) == 3


def test_best_is_the_newest_of_equals_and_loses_to_a_better(tmp_path):
    """Equal returns: the newer; a better one later takes the place."""
    save(tmp_path, 1, 2.0, keep=1)
    save(tmp_path, 2, 2.0, keep=1)
    assert checkpoint.iterations(tmp_path) == [2]
    save(tmp_path, 3, 1.0, keep=1)
    assert checkpoint.iterations(tmp_path) == [2, 3]
    save(tmp_path, 4, 7.0, keep=1)
    assert checkpoint.iterations(tmp_path) == [4]


@pytest.mark.parametrize(
    ("which", "iteration"), [("latest", 3), ("best", 2), ("1", 1), ("2", 2)]
)
def test_a_checkpoint_is_chosen(tmp_path, which, iteration):
    """Latest, best, or by its number."""
    for i, episode_return in ((1, 1.0), (2, 8.0), (3, 2.0)):
        save(tmp_path, i, episode_return)
    template = template_of(make_run(1))
    restored = checkpoint.restore_run(tmp_path, template, which)
    assert restored.iteration == iteration
    assert_equal(restored.state, make_run(iteration))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run with the whole checkpoints 5 and 10; copied before it is damaged."""
    folder = tmp_path_factory.mktemp("saved")
    save(folder, 5, 1.0)
    save(folder, 10, 2.0)
    return folder


def flip(data):
    return (
        data[: len(data) // 2]
        + bytes([data[len(data) // 2] ^ 1])
        + data[len(data) // 2 + 1 :]
    )


DAMAGE = {
    "deleted": None,
    "emptied": lambda data: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "flipped": flip,
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_to_any_file_falls_back_and_says_so(saved, tmp_path, capfd, damage):
    """Whatever happens to a file of the newest checkpoint, the one before is read.

    The sentence names checkpoint and file, and nothing else is printed.
    """
    newest = checkpoint.path_of(tmp_path / "run", 10)
    template = template_of(make_run(1))
    shutil.copytree(saved, tmp_path / "run")
    for path in sorted(path for path in newest.rglob("*") if path.is_file()):
        data = path.read_bytes()
        if damage is None:
            path.unlink()
        else:
            path.write_bytes(damage(data))
        restored = checkpoint.restore_run(tmp_path / "run", template)
        assert restored.iteration == 5, path
        assert_equal(restored.state, make_run(5))
        (sentence,) = restored.skipped
        assert sentence.startswith(f"The checkpoint {newest} is damaged: ")
        path.write_bytes(data)
    assert checkpoint.restore_run(tmp_path / "run", template).iteration == 10
    assert capfd.readouterr() == ("", "")


def test_damaged_best_falls_back_to_the_one_before(saved, tmp_path):
    """A best checkpoint without its meta.json is not the best any more."""
    shutil.copytree(saved, tmp_path / "run")
    (checkpoint.path_of(tmp_path / "run", 10) / checkpoint.META).unlink()
    template = template_of(make_run(1))
    assert checkpoint.restore_run(tmp_path / "run", template, "best").iteration == 5


def test_all_damaged_is_one_error_that_names_each(saved, tmp_path):
    """Nothing to fall back on: a ValueError with both checkpoints in it."""
    shutil.copytree(saved, tmp_path / "run")
    for iteration in (5, 10):
        path = checkpoint.path_of(tmp_path / "run", iteration) / "train" / "_METADATA"
        path.write_bytes(b"{}")
    with pytest.raises(
        ValueError, match=r"/10 is damaged.*/5 is damaged.*--checkpoint"
    ):
        checkpoint.restore_run(tmp_path / "run", template_of(make_run(1)))


def test_hidden_files_of_others_do_no_harm(saved, tmp_path):
    """What a file manager leaves behind in a checkpoint or beside it is ignored."""
    shutil.copytree(saved, tmp_path / "run")
    (checkpoint.path_of(tmp_path / "run", 10) / ".DS_Store").write_text("x")
    (tmp_path / "run" / checkpoint.FOLDER / "notes").mkdir()
    restored = checkpoint.restore_run(tmp_path / "run", template_of(make_run(1)))
    assert restored.iteration == 10


def test_another_network_is_refused_with_both_shapes(saved):
    """The first array that differs is named, there and here; no older one is tried."""
    template = template_of(make_run(10, width=6))
    sentence = r"params.actor.kernel is float32\[2, 4\] there and float32\[2, 6\] here"
    with pytest.raises(ValueError, match=sentence):
        checkpoint.restore_run(saved, template)
    template = template_of(make_run(10)._replace(obs={}))
    with pytest.raises(ValueError, match=r"obs.policy is .* there and nothing here"):
        checkpoint.restore_run(saved, template)
    state = {**make_run(10).env_state, "contact": jnp.zeros((NUM_ENVS, 0), jnp.int16)}
    template = template_of(make_run(10)._replace(env_state=state))
    with pytest.raises(ValueError, match=r"int16\[3, 0, 3\] there and int16\[3, 0\] "):
        checkpoint.restore_run(saved, template)


@pytest.mark.parametrize("where", ["before", "during", "after", "prune"])
def test_death_at_any_moment_of_a_save_loses_nothing(tmp_path, monkeypatch, where):
    """After a save that broke off, the one before is whole, and saving goes on."""
    save(tmp_path, 5, keep=1)
    write, seen = arrays.write, []

    def die(*args):
        raise KeyboardInterrupt

    def delete_one_and_die(path, **how):
        next(file for file in path.rglob("*") if file.is_file()).unlink()
        die()

    def write_one_and_die(path, item):
        seen.append(path)
        write(path, item) if len(seen) == 1 else die()

    with monkeypatch.context() as patch:
        if where == "before":
            patch.setattr(arrays, "write", die)
        elif where == "during":
            patch.setattr(arrays, "write", write_one_and_die)
        elif where == "after":
            patch.setattr(digests, "write", die)
        else:
            patch.setattr(shutil, "rmtree", delete_one_and_die)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, 10, keep=1)
    expected = 10 if where == "prune" else 5
    assert checkpoint.iterations(tmp_path) == [expected]
    restored = checkpoint.restore_run(tmp_path, template_of(make_run(1)))
    assert (restored.iteration, restored.skipped) == (expected, [])
    save(tmp_path, 15, keep=1)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["15"]


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf])
def test_what_is_not_finite_is_never_saved(tmp_path, value):
    """A learned NaN or inf is refused by name; an environment may hold inf."""
    save(tmp_path, 5)
    run = make_run(10)
    stats = {"actor": (), "critic": jnp.array([value])}
    run = run._replace(train=run.train._replace(obs_stats=stats))
    with pytest.raises(ValueError, match=r"obs_stats.critic is not finite"):
        checkpoint.save(tmp_path, run, {"episode_return": None}, keep=3)
    assert checkpoint.iterations(tmp_path) == [5]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["5"]


def test_newer_checkpoints_are_set_aside_not_deleted(saved, tmp_path):
    """What a run does not go on from moves out of the way, twice if need be."""
    for _ in range(2):
        shutil.copytree(saved / "checkpoints", tmp_path / "checkpoints")
        checkpoint.set_aside(tmp_path, after=5)
        assert checkpoint.iterations(tmp_path) == [5]
        shutil.rmtree(tmp_path / "checkpoints")
    kept = sorted((tmp_path / checkpoint.SET_ASIDE).iterdir())
    assert [path.name for path in kept] == ["10", "10_2"]
    assert all(json.loads((path / checkpoint.META).read_text()) for path in kept)


def test_sums_are_those_of_sha256sum(saved):
    """SHA256SUMS lists every file in the form of `sha256sum --check`."""
    import hashlib

    path = checkpoint.path_of(saved, 10)
    files = {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()}
    listed = set()
    for line in (path / digests.SUMS).read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((path / name).read_bytes()).hexdigest() == digest
        listed.add(name)
    assert listed == files - {digests.SUMS}


def test_no_checkpoints_is_an_error_not_a_crash(tmp_path):
    """An empty run has none, and says so."""
    assert checkpoint.iterations(tmp_path) == []
    with pytest.raises(ValueError, match="holds no checkpoint"):
        checkpoint.restore_run(tmp_path, template_of(make_run(1)))


def test_only_what_has_our_names_is_ours(tmp_path):
    """What others hide beside checkpoints neither ends a save nor is deleted."""
    folder = tmp_path / checkpoint.FOLDER
    theirs = [
        ".DS_Store",
        ".nfs0001",
        ".mine/notes.txt",
        ".5.backup/x",
        ".05.deleted/x",
    ]
    ours = [".150.unfinished/train/x", ".5.deleted/train/x"]
    for name in (*theirs, *ours):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    save(tmp_path, 5, keep=1)
    save(tmp_path, 10, keep=1)
    assert all((folder / name).read_text() == "x" for name in theirs)
    assert not [name for name in ours if (folder / name).parent.parent.exists()]
    assert checkpoint.iterations(tmp_path) == [10]


@pytest.mark.parametrize("name", ["0007", "07", "\u00b2", "7.0", "-7", "7 ", "seven"])
def test_other_names_are_no_checkpoints(saved, tmp_path, name):
    """They are not read, not counted, not deleted, and cannot be asked for."""
    shutil.copytree(saved, tmp_path / "run")
    odd = tmp_path / "run" / checkpoint.FOLDER / name
    shutil.copytree(checkpoint.path_of(saved, 10), odd)
    assert checkpoint.iterations(tmp_path / "run") == [5, 10]
    checkpoint.set_aside(tmp_path / "run", after=5)
    save(tmp_path / "run", 15, keep=1)
    assert odd.is_dir()
    with pytest.raises(ValueError, match="has no checkpoint"):
        checkpoint.restore_run(tmp_path / "run", template_of(make_run(1)), name)


def rename(run, *pairs):
    """Gives checkpoints the names of others, all at once."""
    for old, new in pairs:
        path = checkpoint.path_of(run, old)
        path.rename(path.with_name(f"new{new}"))
    for _, new in pairs:
        path = checkpoint.path_of(run, new)
        path.with_name(f"new{new}").rename(path)


def test_a_checkpoint_under_another_name_is_damage(saved, tmp_path):
    """Swapped or copied, it is passed over with a sentence; the one before is read."""
    template = template_of(make_run(1))
    swapped = shutil.copytree(saved, tmp_path / "swapped")
    rename(swapped, (5, 10), (10, 5))
    sentence = r"10 is damaged: it is called 10, and its meta.json say 5.*/5 is damaged"
    with pytest.raises(ValueError, match=sentence):
        checkpoint.restore_run(swapped, template)
    copied = shutil.copytree(saved, tmp_path / "copied")
    for name in (11, 20):
        older = checkpoint.path_of(copied, 5)
        shutil.copytree(older, checkpoint.path_of(copied, name))
    restored = checkpoint.restore_run(copied, template)
    assert restored.iteration == 10
    assert_equal(restored.state, make_run(10))
    assert len(restored.skipped) == 2


def test_a_name_that_meta_confirms_and_the_arrays_do_not_is_damage(saved, tmp_path):
    """Name, meta.json and contents agree, or the checkpoint before is used."""
    run = shutil.copytree(saved, tmp_path / "run")
    rename(run, (10, 20))
    path = checkpoint.path_of(run, 20)
    meta = json.loads((path / checkpoint.META).read_text())
    (path / checkpoint.META).write_text(json.dumps(meta | {"iteration": 20}))
    digests.write(path)
    restored = checkpoint.restore_run(run, template_of(make_run(1)))
    assert restored.iteration == 5
    assert "it is called 20, and its arrays say 10" in restored.skipped[0]
