"""The winner's model in MLflow: logged with signature and example, and registered."""

import hashlib
import importlib
import re
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reskeras.errors import RequestError, in_a_line

if TYPE_CHECKING:
    from reskeras.models.inputs import InputForm
    from tuning.tracking.search_run import SearchRun

ALIAS = "champion"
EXAMPLE = ".example.npy"
"""An image [H,W,C] of the data, in the search's folder."""
_LOGGED = "reskeras.model"
"""Tag of a search's run for the logged model: its id, and the digest of its file."""


def log_champion(search: "SearchRun", run_id: str, name: str, directory: Path) -> None:
    """Logs and registers `best.keras` as the output of its training's run and of the search's run.

    Does nothing if this model is there already.

    Args:
        search: the search's run.
        run_id: the run of the training that left the model.
        name: the network's name, for people.
        directory: the search's folder.

    Raises:
        RequestError: there is no model, or it cannot be read.
    """
    from mlflow.entities import LoggedModelOutput

    client, file = search.client, directory / "best.keras"
    if not file.exists():
        raise RequestError(f"{file} is missing")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    if client.get_run(search.run_id).data.tags.get(_LOGGED, "").endswith(digest):
        return
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder, "model")
        _pack(file, directory / EXAMPLE, packed)
        params = {"network": name}
        made = client.create_logged_model(
            search.experiment, name="model", source_run_id=run_id, params=params, model_type="keras"
        )
        client.log_model_artifacts(made.model_id, str(packed))
    client.finalize_logged_model(made.model_id, "READY")
    for run in dict.fromkeys([run_id, search.run_id]):
        client.log_outputs(run, [LoggedModelOutput(made.model_id, step=0)])
    # A store that is written to directly looks for models:/ in MLflow's global store, even if it is
    # another one (MLflow 3.17).
    source = f"models:/{made.model_id}" if search.served else made.artifact_location
    _register(client, registered_name(search.name), source, made.model_id, run_id, name)
    client.set_tag(search.run_id, _LOGGED, f"{made.model_id} {digest}")


def registered_name(search: str) -> str:
    """A search's name as a valid registry name."""
    return re.sub(r"[/:]", "-", search)


def _register(
    client: Any, name: str, source: str, model_id: str, run_id: str, description: str
) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(
            name, description="The best network of each `reskeras tune` of this name"
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = client.create_model_version(
        name, source, run_id, description=description, model_id=model_id
    )
    client.set_registered_model_alias(name, ALIAS, version.version)


def _pack(file: Path, example: Path, packed: Path) -> None:
    """The model in a folder in the form that MLflow loads and serves."""
    import keras

    from reskeras.models.inputs import input_form

    with warnings.catch_warnings(action="ignore"):  # about type hints in its own code
        import mlflow.keras
        import mlflow.pyfunc.model
        from mlflow.models import infer_signature
    try:
        model = keras.saving.load_model(file)
    except (ValueError, OSError) as error:
        raise RequestError(f"{file}: not a Keras model: {in_a_line(error)}") from error
    images = _example(example, input_form(model))[None]
    outputs = keras.tree.map_structure(keras.ops.convert_to_numpy, model(images, training=False))
    # mlflow.keras writes the example there before it creates the folder (mlflow/mlflow#16183)
    packed.mkdir()
    # The requirements are given: to find them, MLflow would start a Python process that imports
    # TensorFlow.
    backend = keras.backend.backend()
    versions = {"keras": keras, "numpy": np, backend: importlib.import_module(backend)}
    requirements = [f"{name}=={module.__version__}" for name, module in versions.items()]
    mlflow.keras.save_model(
        model,
        str(packed),
        signature=infer_signature(images, outputs),
        input_example=images,
        pip_requirements=requirements,
    )


def _example(path: Path, form: "InputForm") -> Any:
    """The example image in the model's form; noise if there is none."""
    if not path.exists():
        return np.random.default_rng(0).random(form.shape, dtype=np.float32)
    return form.arrange(np.load(path))
