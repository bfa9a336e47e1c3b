"""The MLflow logger of docs/loggers.md, with the real package:

uv run --with 'mlflow-skinny>=3,<4' pytest -n 0 tests/runs/test_mlflow.py
"""

import json
import re

import pytest
import running

from ppo_jax.runs import metrics
from ppo_jax.runs.loggers import beside

mlflow = pytest.importorskip("mlflow", reason="needs mlflow-skinny")

PAGE = running.ROOT / "docs" / "loggers.md"


@pytest.fixture
def client(tmp_path, monkeypatch, patience):
    """A place for MLflow, and the code of the page as a module."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "my_mlflow.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    return mlflow.MlflowClient((tmp_path / "mlruns").as_uri())


def go_on(run, first, end):
    notes = []
    config = {"task": "Cartpole", "wandb_project": "arms", "seed": 7}
    logger = beside.start_logger(
        "my_mlflow:MlflowWriter", run, first, config, notes.append
    )
    for step in range(first, end):
        logger.write(step, metrics.tagged({"value_loss": 1 / (step + 1)}))
    return logger, notes


def test_the_logger_of_the_page_is_one_run_that_goes_on(client, tmp_path):
    run = tmp_path / "a_run"
    (run / "checkpoints" / "5").mkdir(parents=True)
    (run / "checkpoints" / "5" / "meta.json").write_text("{}")
    logger, notes = go_on(run, 0, 5)
    logger.save_model(run / "checkpoints" / "5", 4)
    (run / "videos").mkdir()
    (run / "videos" / "play.mp4").write_text("a film")
    logger.close()
    assert notes == []
    logger, notes = go_on(run, 3, 8)  # 3 and 4 are there already
    logger.close()
    assert notes == []
    experiment = client.get_experiment_by_name("arms")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.run_name == "a_run"
    history = client.get_metric_history(found.info.run_id, "Loss/value")
    assert [(x.step, x.value) for x in history] == [(i, 1 / (i + 1)) for i in range(8)]
    config = client.download_artifacts(found.info.run_id, "config.json", tmp_path)
    with open(config) as file:
        assert json.load(file)["seed"] == 7
    listed = client.list_artifacts(found.info.run_id, "checkpoints/5")
    assert [x.path for x in listed] == ["checkpoints/5/meta.json"]
    assert [x.path for x in client.list_artifacts(found.info.run_id, "videos")]
