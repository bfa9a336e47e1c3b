"""What a user gets wrong: one sentence that names it and the way out, exit code 2."""

import json
import shutil

import pytest
import running

from ppo_jax.cli import play, sweep, train
from ppo_jax.configs import config_for
from ppo_jax.runs import checkpoint, digests, folders
from ppo_jax.sweeps import planning, settings


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with runs: `good` and variants of it that are broken in one way each."""
    home = tmp_path_factory.mktemp("home")
    good = shutil.copytree(running.tiny_run(), home / "good")
    (home / "file.txt").write_text("not a run\n")
    (home / "folder").mkdir()
    (home / "unknown_task").mkdir()
    for name in ("deep", "no_date"):
        shutil.copytree(good, home / name)
    for name in ("no_checkpoints", "damaged", "not_yaml", "a_list", "not_text"):
        shutil.copytree(good, home / name)
    for name in ("unknown_key", "bad_value", "not_a_group", "no_config", "two_saved"):
        shutil.copytree(good, home / name)
    shutil.rmtree(checkpoint.path_of(good, 1))
    shutil.rmtree(home / "no_checkpoints" / checkpoint.FOLDER)
    for path in (home / "damaged").rglob("*METADATA"):
        path.write_bytes(path.read_bytes()[:-9])
    texts = {
        "not_yaml": "task: [Cartpole\n",
        "a_list": "- Cartpole\n",
        "unknown_key": "task: Cartpole\nalgorithm: {gama: 0.9}\n",
        "bad_value": "task: Cartpole\nactor: {hidden_dims: [64, -3]}\n",
        "not_a_group": "task: Cartpole\nactor: 5\n",
        "deep": "[" * 5000,
        "no_date": "seed: 2001-99-99\n",
    }
    for name, text in texts.items():
        (home / name / folders.CONFIG_FILE).write_text(text)
    (home / "folder.mp4").mkdir()
    make_sweeps(home)
    (home / "not_text" / folders.CONFIG_FILE).write_bytes(b"\xff\xfe\x00task")
    (home / "no_config" / folders.CONFIG_FILE).unlink()
    return home


def make_sweeps(home):
    """Folders of sweeps that have not begun, each wrong in one way."""
    plan = planning.to_dict(settings.make_sweep(config_for("Cartpole"), {}))
    texts = {
        "altered": json.dumps({"sweep": plan}),
        "no_sums": json.dumps({"sweep": plan}),
        "no_chunks": json.dumps({"sweep": plan}),
        "bad_chunk": json.dumps({"sweep": plan}),
        "other_plan": json.dumps({"sweep": plan | {"base": {"gamma": 1}}}),
        "deep_plan": "[" * 9000,
    }
    for name, text in texts.items():
        (home / name).mkdir()
        (home / name / "manifest.json").write_text(text)
        digests.write(home / name, ["manifest.json"])
    (home / "altered" / "manifest.json").write_text(texts["altered"] + " ")
    (home / "no_sums" / digests.SUMS).unlink()
    (home / "bad_chunk" / "chunks" / "stage0_program0_chunk0").mkdir(parents=True)


def check(capsys, home, script, argv, words):
    """Asserts that a call ends in one sentence with these words, and leaves no run."""
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        code = running.call(script, *argv)
    _, err = capsys.readouterr()
    assert code == 2
    assert err.count("\n") == 1, err
    assert err.startswith(f"{running.name_of(script)}: "), err
    missing = [word for word in words if word not in err]
    assert not missing, (missing, err)
    assert not list((home / folders.LOG_ROOT).glob("*/*")), "a run that never was"


# arguments, and words that the sentence must have: what is wrong, and the way out
TRAIN = [
    # names
    ("--task Cartpol", ["Cartpol", "did you mean 'Cartpole'"]),
    ("--task xyzzy", ["xyzzy", "known:", "Franka-Lift"]),
    ("--task gymnax", ["'gymnax'", "gymnax:NAME"]),
    ("--num_env 5", ["num_env", "did you mean 'num_envs'"]),
    ("--gama 0.9", ["gama", "did you mean 'gamma'"]),
    ("algorithm.gama=0.9", ["algorithm.gama", "did you mean 'algorithm.gamma'"]),
    ("--lits", ["lits", "did you mean 'list'"]),
    ("--chekpoint x", ["chekpoint", "did you mean 'checkpoint'"]),
    ("hidden_dims=[64]", ["ambiguous", "actor.hidden_dims or critic.hidden_dims"]),
    ("critic.distribution_cfg.init_std=1", ["critic.distribution_cfg", "= none"]),
    # the form of an option
    ("Cartpole", ["'Cartpole'", "--task NAME"]),
    ("-n 5", ["'-n'", "--task NAME"]),
    ("-n=5", ["'-n=5'", "gamma=0.98"]),
    ("=5", ["there is no option ''", "--help"]),
    ("--num_envs", ["needs a value: give --num_envs N"]),
    ("--num_envs --list", ["--num_envs needs a value"]),
    ("--gamma", ["needs a value: give --gamma VALUE"]),
    ("--run_name=", ["needs a value: give --run_name TEXT"]),
    ("--resume=yes", ["--resume takes no value", "=yes"]),
    ("--video=a.mp4", ["--video takes no value", "=a.mp4"]),
    # types
    ("--num_envs abc", ["num_envs = 'abc'", "a whole number"]),
    ("--num_envs 1.5", ["num_envs = 1.5", "a whole number"]),
    ("--num_envs 1e3", ["num_envs = 1000.0", "a whole number"]),
    ("--num_envs true", ["num_envs = True", "a whole number"]),
    ("--seed none", ["seed = None", "a whole number"]),
    ("gamma=high", ["algorithm.gamma = 'high'", "a number"]),
    ("gamma=[0.9]", ["algorithm.gamma = [0.9]", "a number"]),
    ("lam=nan", ["algorithm.lam = 'nan'", "a number"]),
    ("check_for_nan=1", ["check_for_nan = 1", "true or false"]),
    ("init_at_random_ep_len=maybe", ["'maybe'", "true or false"]),
    ("actor.hidden_dims=64", ["actor.hidden_dims = 64", "a list", "[256, 128]"]),
    ("actor.hidden_dims=[64,a]", ["actor.hidden_dims = '[64,a]'", "a list"]),
    ("critic.hidden_dims=[64,1.5]", ["critic.hidden_dims = [64, 1.5]", "whole number"]),
    ("std_range=[0.1]", ["std_range = [0.1]", "a list of 2"]),
    ("obs_groups=[policy]", ["obs_groups", "a dictionary of lists"]),
    ("obs_groups={'actor':'policy'}", ["obs_groups", "a dictionary of lists"]),
    ("learning_rate=1e-300", ["learning_rate = 1e-300", "float32", "is 0.0"]),
    ("value_loss_coef=1e39", ["value_loss_coef = 1e+39", "float32", "is inf"]),
    # ranges
    ("--num_envs 0", ["num_envs = 0", "above 0"]),
    ("--num_envs -3", ["num_envs = -3", "above 0"]),
    ("--devices 0", ["devices = 0", "above 0, or all"]),
    ("--devices none", ["devices = ", "a whole number or all"]),
    ("--devices 3.5", ["devices = 3.5", "a whole number or all"]),
    ("--devices 64", ["devices = 64", "this machine has 1"]),
    ("micro_batches=5", ["micro_batches = 5", "samples", "divisor"]),
    ("--num_envs 999999999", ["num_envs * num_steps_per_env", "too many", "at most"]),
    ("--num_envs 99999999999999999999", ["num_envs = 9", "1 to 2147483647"]),
    (f"--num_envs 0x{'f' * 5000}", ["num_envs = a number of about 6021 digits"]),
    (f"gamma={'[' * 9000}", ["algorithm.gamma = '[[[", "...", "a number"]),
    (f"gamma={'-' * 90000}1", ["algorithm.gamma = '---", "...", "a number"]),
    ("gamma={[]:1}", ["algorithm.gamma = '{[]:1}'", "a number"]),
    (f"gamma=1{'0' * 400}", ["algorithm.gamma = 1000", "a number"]),
    (f"--{'x' * 5000} 1", ["there is no option 'xxx", "..."]),
    (f"--task {'x' * 5000}", ["xxx...xxx", "known:"]),
    ("num_learning_epochs=99999999999999999999", ["num_learning_epochs", "1 to 21"]),
    ("actor.hidden_dims=[99999999999999999999]", ["actor.hidden_dims", "layer width"]),
    ("--checkpoint nowhere.pt", ["nowhere.pt", "no such file", "model_N.pt"]),
    ("obs_groups={'actor':['policy','policy']}", ["names 'policy' twice"]),
    ("--resume --checkpoint deep", ["deep/params/agent.yaml", "nested too deeply"]),
    ("--resume --checkpoint no_date", ["no_date/params/agent.yaml", "cannot build"]),
    ("--max_iterations 0", ["max_iterations = 0", "above 0"]),
    ("--seed -1", ["seed = -1", "0 to 4294967295"]),
    ("--seed 4294967296", ["seed = 4294967296", "0 to 4294967295"]),
    ("gamma=1.5", ["algorithm.gamma = 1.5", "from 0 to 1"]),
    ("gamma=-0.1", ["algorithm.gamma = -0.1", "from 0 to 1"]),
    ("lam=2", ["algorithm.lam = 2.0", "from 0 to 1"]),
    ("learning_rate=0", ["algorithm.learning_rate = 0.0", "above 0"]),
    ("learning_rate=1e999", ["algorithm.learning_rate = inf", "above 0"]),
    ("clip_param=-0.2", ["algorithm.clip_param = -0.2", "above 0"]),
    ("entropy_coef=-1", ["algorithm.entropy_coef = -1.0", "0 or a number above"]),
    ("max_grad_norm=0", ["algorithm.max_grad_norm = 0.0", "above 0"]),
    ("desired_kl=0", ["algorithm.desired_kl = 0.0", "above 0"]),
    ("save_interval=0", ["save_interval = 0", "above 0"]),
    ("keep_checkpoints=0", ["keep_checkpoints = 0", "above 0"]),
    ("num_mini_batches=0", ["algorithm.num_mini_batches = 0", "above 0"]),
    ("clip_actions=0", ["clip_actions = 0.0", "above 0"]),
    ("actor.hidden_dims=[]", ["actor.hidden_dims = ()", "at least one"]),
    ("actor.hidden_dims=[0]", ["actor.hidden_dims = (0,)", "above 0"]),
    ("std_range=[2.0,0.1]", ["std_range = (2.0, 0.1)", "the smaller number first"]),
    ("action_range=[1,1]", ["action_range = (1.0, 1.0)", "the smaller number first"]),
    ("init_std=-1", ["init_std = -1.0", "above it"]),
    ("--run_name a/b", ["run_name = 'a/b'", "a name for a folder"]),
    ("--experiment_name ..", ["experiment_name = '..'", "a name for a folder"]),
    # words
    ("--logger wanbd", ["logger = 'wanbd'", "did you mean 'wandb'"]),
    ("--logger my.log:Writer", ["logger = 'my.log:Writer' cannot be loaded", "'my'"]),
    ("--logger json:dumps", ["logger = 'json:dumps' has no add_scalar", "LogWriter"]),
    ("schedule=adptive", ["schedule = 'adptive'", "did you mean 'adaptive'"]),
    ("optimizer=adamax", ["optimizer = 'adamax'", "did you mean 'adam"]),
    ("actor.activation=rellu", ["activation = 'rellu'", "did you mean 'relu'"]),
    ("timeout_bootstrap=last", ["timeout_bootstrap = 'last'", "last_value"]),
    ("std_type=linear", ["std_type = 'linear'", "one of scalar, log"]),
    ("actor.class_name=RNN", ["actor.class_name = 'RNN'", "MLPModel", "RNNModel"]),
    ("distribution_cfg.class_name=Gaussian", ["'Gaussian'", "GaussianDistribution"]),
    # what does not fit together
    ("--num_envs 1 num_steps_per_env=4", ["= 4 samples", "num_mini_batches", "fewer"]),
    ("obs_groups={'actor':['camera']}", ["obs_groups['actor']", "'camera'", "policy"]),
    ("obs_groups={'actor':[]}", ["obs_groups['actor']", "no group", "policy"]),
    ("obs_groups={'actr':['policy']}", ["'actr'", "did you mean 'actor'"]),
    ("--seed 1 --seed 2", ["seed is given twice", "1 and as 2"]),
    ("gamma=0.9 --algorithm.gamma 0.8", ["gamma is given twice", "0.9 and as 0.8"]),
    ("num_envs=9 agent.num_envs=8", ["num_envs is given twice", "9 and as 8"]),
    # what would do nothing
    ("--list gamma=0.9", ["--list has no use for gamma", "leave it away"]),
    ("--list --task Cartpole", ["--list has no use for task", "leave it away"]),
    ("--help --resume", ["--help has no use for resume", "leave it away"]),
    ("--help --task Cartpol", ["Cartpol", "did you mean 'Cartpole'"]),
    # runs
    ("--resume", ["logs/ppo_jax/Cartpole holds no run", "train first"]),
    ("--resume --task Franka-Lift", ["logs/ppo_jax/Franka-Lift holds no run"]),
    ("--checkpoint best", ["logs/ppo_jax/Cartpole holds no run", "train first"]),
    ("--checkpoint nowhere", ["nowhere: there is no such file", "a run's", "latest"]),
    ("--checkpoint file.txt", ["file.txt is not a run", "RUN/checkpoints/150"]),
    ("--checkpoint folder", ["folder is not a run", "RUN/checkpoints/150"]),
    ("--checkpoint no_checkpoints", ["no_checkpoints", "no finished checkpoint"]),
    ("--checkpoint good/checkpoints/7", ["no checkpoint '7'", "one of 2"]),
    ("--checkpoint no_config", ["no_config is not a run"]),
    ("--resume --checkpoint good", ["already done 2 iterations", "--max_iterations"]),
    ("--resume --checkpoint good num_envs=9", ["num_envs = 9", "has 8", "leave it"]),
    ("--resume --checkpoint good --seed 3", ["seed = 3", "has 42", "leave it away"]),
    ("--resume --checkpoint good actor.hidden_dims=[9]", ["actor.hidden_dims", "(8,)"]),
    ("--resume --checkpoint good --run_name x", ["run_name = 'x'", "has ''"]),
    (
        "--resume --checkpoint good --task Franka-Lift",
        ["--task Franka-Lift", "Cartpole"],
    ),
    ("--resume --checkpoint two_saved/checkpoints/1", ["a newer checkpoint, 2"]),
    ("--resume --checkpoint damaged", ["is damaged", "no checkpoint that can be read"]),
    ("--resume --checkpoint not_yaml", ["not_yaml/params/agent.yaml", "cannot read"]),
    ("--resume --checkpoint not_text", ["not_text/params/agent.yaml", "cannot read"]),
    ("--resume --checkpoint a_list", ["a_list/params/agent.yaml", "a YAML mapping"]),
    ("--resume --checkpoint unknown_key", ["unknown_key/params/agent.yaml", "'gamma'"]),
    ("--resume --checkpoint bad_value", ["agent.yaml", "actor.hidden_dims = (64, -3)"]),
    ("--resume --checkpoint not_a_group", ["agent.yaml", "actor = 5", "hidden_dims"]),
]
PLAY = [
    ("--task Cartpol", ["Cartpol", "did you mean 'Cartpole'"]),
    ("", ["logs/ppo_jax/Cartpole holds no run", "train first"]),
    ("--checkpoint nowhere", ["nowhere: there is no such file"]),
    ("--checkpoint good --video movie", ["--video movie", ".mp4 or .gif"]),
    ("--checkpoint good --video movie.avi", ["movie.avi", ".mp4 or .gif"]),
    ("--checkpoint good --video", ["needs a value: give --video FILE"]),
    ("--checkpoint good --num_envs 0", ["num_envs = 0", "above 0"]),
    ("--checkpoint good --num_envs few", ["num_envs = 'few'", "a whole number"]),
    ("--checkpoint good --seed -1", ["seed = -1", "0 to 4294967295"]),
    ("--checkpoint good max_iterations=5", ["there is no option 'max_iterations'"]),
    ("--checkpoint good --gamma 0.9", ["no option 'gamma'", "--help"]),
    ("--checkpoint good --clip_actions 0", ["clip_actions = 0.0", "above 0"]),
    ("--checkpoint good --task Franka-Lift", ["--task Franka-Lift", "has Cartpole"]),
    ("--checkpoint good --experiment_name x", ["--experiment_name x", "has Cartpole"]),
    ("--checkpoint good --resume", ["there is no option 'resume'", "--help"]),
    ("--chekpoint good", ["chekpoint", "did you mean 'checkpoint'"]),
    ("--checkpoint damaged", ["is damaged", "no checkpoint that can be read"]),
    ("--help --task Cartpole", ["--help has no use for task"]),
    ("--num_envs 99999999999999999999", ["num_envs = 9", "1 to 2147483647"]),
    (f"--checkpoint good --num_envs {'[' * 9000}", ["num_envs = '[[[", "..."]),
    ("--checkpoint good --video folder.mp4", ["folder.mp4", "Is a directory"]),
    (
        "--checkpoint good --video file.txt/a.mp4",
        ["file.txt/a.mp4", "cannot"],
    ),
    ("--checkpoint good --video /proc/none/a.mp4", ["/proc/none/a.mp4", "cannot be"]),
    ("--checkpoint deep", ["deep/params/agent.yaml", "nested too deeply"]),
    ("--checkpoint nowhere.pt", ["nowhere.pt"]),
    ("--checkpoint no_checkpoints", ["no_checkpoints", "no finished checkpoint"]),
    ("--checkpoint not_yaml", ["not_yaml/params/agent.yaml", "cannot read"]),
    ("--checkpoint not_text", ["not_text/params/agent.yaml", "cannot read"]),
    ("--checkpoint a_list", ["a_list/params/agent.yaml", "a YAML mapping"]),
    ("--checkpoint good --export a.txt", ["a.txt"]),
]
SWEEP = [
    ("--task Cartpol", ["Cartpol", "did you mean 'Cartpole'"]),
    ("--task Isaac-Cartpole-Direct", ["needs Isaac Lab 3.0", "--extra isaaclab"]),
    ("gama=0.9,0.99", ["gama", "did you mean 'gamma'"]),
    ("--sedes 3", ["sedes", "did you mean 'seeds'"]),
    ("hidden_dims=[8],[9]", ["ambiguous", "actor.hidden_dims or critic"]),
    ("gamma=0.9,1.5", ["algorithm.gamma = 1.5", "from 0 to 1"]),
    ("gamma=0.9,high", ["algorithm.gamma = 'high'", "a number"]),
    ("gamma=0.9,", ["gamma = '0.9,'", "beside a comma"]),
    ("gamma=0.9,0.99,0.9", ["gamma = '0.9,0.99,0.9'", "leave one 0.9 away"]),
    ("actor.hidden_dims=8,9", ["actor.hidden_dims = 8", "a list"]),
    ("gamma=logarithmic(0.9,0.99)", ["no 'logarithmic'", "uniform(LOW,HIGH)"]),
    ("gamma=uniform(0.9,1.5) --samples 9", ["algorithm.gamma = 1.", "from 0 to 1"]),
    ("gamma=uniform(0.9) --samples 2", ["gamma = uniform(0.9)", "two numbers"]),
    ("gamma=uniform(0.99,0.9) --samples 2", ["the smaller first"]),
    ("gamma=uniform(0.9,inf) --samples 2", ["gamma = uniform(0.9,inf)"]),
    ("learning_rate=log(0,1) --samples 2", ["begins above 0"]),
    ("num_mini_batches=uniform(1,8) --samples 2", ["real numbers", "a list"]),
    ("gamma=uniform(0.9,0.99)", ["gamma is a range", "--samples N"]),
    ("gamma=0.9,0.99 --samples 2", ["--samples has nothing to draw", "log(1e-4"]),
    ("--seeds 0", ["--seeds 0", "above 0"]),
    ("--seeds 1.5", ["--seeds 1.5", "a whole number"]),
    ("--seed 4294967295 --seeds 2", ["seed = 4294967296", "0 to 4294967295"]),
    ("--seed 1,2", ["seed = (1, 2)", "a whole number"]),
    ("--chunk_size none", ["--chunk_size none", "a whole number"]),
    ("gamma=0.9,0.99 --stop_bad 1", ["--stop_bad 1", "between 0 and 1"]),
    ("--stop_bad 0.5 --seeds 4", ["--stop_bad needs settings to compare"]),
    ("max_iterations=5,9 --stop_bad 0.5", ["--stop_bad", "one max_iterations"]),
    ("num_mini_batches=2,99999", ["num_mini_batches = 99999", "fewer"]),
    ("obs_groups={'actor':['camera']}", ["obs_groups['actor']", "'camera'"]),
    ("logger=none", ["a sweep has no use for logger", "leave it away"]),
    ("simulator.bridge=host", ["Cartpole runs in JAX", "leave device, bridge"]),
    ("--name a/b", ["'a/b'", "a name for a folder"]),
    ("--sweep nowhere", ["--sweep is for --resume and --export"]),
    ("--resume", ["logs/ppo_jax/sweeps holds no sweep", "--sweep FOLDER"]),
    ("--resume --sweep folder", ["folder is not a sweep", "manifest.json"]),
    ("--resume --sweep folder gamma=0.9", ["--resume has no use for gamma"]),
    ("--export best", ["logs/ppo_jax/sweeps holds no sweep"]),
    ("--export 3 --seeds 2", ["--export has no use for seeds"]),
    ("gamma=0.9,0.90", ["gamma=0.9 and gamma=0.90 are the same setting", "leave one"]),
    ("actor.activation=elu,ELU", ["actor.activation=elu and", "=ELU are the same"]),
    ("actor.hidden_dims=[8],[8,]", ["=[8] and", "=[8,] are the same setting"]),
    ("lam=0,1 gamma=1,1.0", ["gamma=1 and gamma=1.0 are the same setting"]),
    ("schedule=fixed,adaptive desired_kl=none,0.1", ["are the same setting"]),
    ("obs_groups={'actor':['policy','policy']}", ["names 'policy' twice"]),
    ("--seeds 99999999999999999999", ["too large", "at most 1000000 members"]),
    ("gamma=uniform(0.9,0.99) --samples 99999999999", ["too large", "1000000"]),
    (f"--chunk_size {'[' * 9000}", ["--chunk_size [[[", "...", "whole number"]),
    (f"gamma=0.9,{'[' * 9000}", ["algorithm.gamma = '[[[", "..."]),
    ("num_envs=8,99999999999999999999", ["num_envs = 9", "1 to 2147483647"]),
    ("--resume --sweep file.txt", ["file.txt is not a sweep"]),
    ("--resume --sweep no_sums", ["no_sums/SHA256SUMS cannot be read"]),
    ("--resume --sweep altered", ["altered/manifest.json was altered", "start the"]),
    ("--resume --sweep other_plan", ["other_plan/manifest.json holds no plan"]),
    ("--resume --sweep deep_plan", ["deep_plan/manifest.json holds no plan"]),
    ("--export best --sweep folder", ["folder is not a sweep", "manifest.json"]),
    ("--export best --sweep altered", ["altered/manifest.json was altered"]),
    ("--export best --sweep other_plan", ["holds no plan that this version reads"]),
    ("--export best --sweep no_chunks", ["no_chunks has no finished chunk yet"]),
    ("--export best --sweep bad_chunk", ["chunk0/SHA256SUMS cannot be read"]),
    ("--help --resume", ["--help has no use for resume"]),
]


@pytest.mark.parametrize(("line", "words"), SWEEP, ids=[line for line, _ in SWEEP])
def test_sweep_answers_in_one_sentence(capsys, home, line, words):
    """A wrong command line of sweep.py names the mistake, the value and the fix."""
    check(capsys, home, sweep, line.split(), words)


@pytest.mark.parametrize(("line", "words"), TRAIN, ids=[line for line, _ in TRAIN])
def test_train_answers_in_one_sentence(capsys, home, line, words):
    """A wrong command line of train.py names the mistake, the value and the fix."""
    check(capsys, home, train, line.split(), words)


@pytest.mark.parametrize(("line", "words"), PLAY, ids=[line for line, _ in PLAY])
def test_play_answers_in_one_sentence(capsys, home, line, words):
    """A wrong command line of play.py names the mistake, the value and the fix."""
    check(capsys, home, play, line.split(), words)


def test_network_that_does_not_fit_is_named_with_both_shapes(capsys, home):
    """Weights of another network are refused with the array and both its shapes."""
    line = [*running.TINY[:-1], "critic.hidden_dims=[9]", "--checkpoint=good"]
    words = [
        "good/checkpoints/2 does not fit: params.critic.head.kernel",
        "float32[8, 1] there and float32[9, 1] here",
    ]
    check(capsys, home, train, line, words)


def test_read_only_folder_is_one_sentence(capsys, home, monkeypatch):
    """An error of the system, such as a full disk, is no traceback either."""

    def fail(config):
        raise PermissionError(13, "Permission denied", "logs")

    monkeypatch.setattr(folders, "new_run_folder", fail)
    check(capsys, home, train, running.TINY, ["Permission denied", "logs"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "argv", "word"),
    [
        ("train.py", ["--gama", "0.9"], "did you mean 'gamma'"),
        ("play.py", ["--checkpoint", "nowhere"], "no such file"),
    ],
)
def test_real_process_exits_with_2(tmp_path, script, argv, word):
    """The same as a real process: exit code 2, one line on stderr, none on stdout."""
    process = running.start(tmp_path, str(running.ROOT / script), *argv)
    code, out, err = running.finish(process)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert word in err
    assert "Traceback" not in err
