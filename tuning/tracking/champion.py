"""The winner's model in MLflow: logged with signature and example, and registered."""

import hashlib
import importlib
import re
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reskeras.errors import RequestError, in_a_line
from reskeras.spec import ImageShape
from tuning.record.journal import read_header

if TYPE_CHECKING:
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
        header = read_header(directory / "journal.jsonl")
        record = {} if header is None else header["about"]["data"]
        _pack(file, directory / EXAMPLE, record, packed)
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


def _pack(file: Path, example: Path, record: Mapping[str, Any], packed: Path) -> None:
    """The model in a folder, in the forms that MLflow loads and serves.

    `mlflow.keras` loads the network. `mlflow.pyfunc` serves a SavedModel that takes raw images, and
    needs no Keras layers of ours; but the network, if it takes signals or volumes, or Keras does
    not run on TensorFlow.

    Args:
        file: the network.
        example: an image [H,W,C] of its data, as the network sees it.
        record: the facts of its data.
        packed: the folder to make.
    """
    import keras

    from reskeras.models.export import takes_images

    try:
        network = keras.saving.load_model(file)
    except (ValueError, OSError) as error:
        raise RequestError(f"{file}: not a Keras model: {in_a_line(error)}") from error
    if keras.backend.backend() == "tensorflow" and takes_images(network):
        _pack_served(network, file, example, record, packed)
    else:
        _pack_network(network, example, packed)


def _pack_network(network: Any, example: Path, packed: Path) -> None:
    import keras

    from reskeras.models.inputs import input_form

    with warnings.catch_warnings(action="ignore"):  # about type hints in its own code
        import mlflow.keras
        import mlflow.pyfunc.model
        from mlflow.models import infer_signature
    form = input_form(network)
    image = _example(example, form.image_shape(network.name))
    images = form.arrange(image)[np.newaxis]
    outputs = keras.tree.map_structure(keras.ops.convert_to_numpy, network(images, training=False))
    # mlflow.keras writes the example there before it creates the folder (mlflow/mlflow#16183)
    packed.mkdir()
    mlflow.keras.save_model(
        network,
        str(packed),
        signature=infer_signature(images, outputs),
        input_example=images,
        pip_requirements=_requirements(),
    )


def _pack_served(
    network: Any, file: Path, example: Path, record: Mapping[str, Any], packed: Path
) -> None:
    import keras

    from reskeras.models.preprocessing import preprocessed

    with warnings.catch_warnings(action="ignore"):  # about type hints in its own code
        import mlflow.pyfunc.model
        import mlflow.tensorflow
        from mlflow.models import Model, ModelSignature, infer_signature
        from mlflow.types import Schema, TensorSpec
    model = preprocessed(network, record)
    (given,) = model.inputs
    # A network for patches takes windows of its own size, which are not resized.
    height, width = model.get_layer("preprocessing").sides or given.shape[1:3]
    image = _example(example, (height, width, given.shape[-1]))
    images = _raw(image, given.dtype, record.get("peak"))[np.newaxis]
    # Sides are free, which cannot be inferred from an example.
    sides = tuple(side or -1 for side in given.shape)
    # Eagerly: in a graph, oneDNN reports an error about bytes that is none.
    answer = _head_of(model(images, training=False)).numpy()
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(given.dtype), sides)]),
        outputs=infer_signature(images, answer).outputs,
    )
    about = Model()
    mlflow.tensorflow.save_model(
        _served(model),
        str(packed),
        mlflow_model=about,
        signature=signature,
        input_example=images,
        pip_requirements=_requirements(),
    )
    data = packed / "data"
    data.mkdir()
    shutil.copyfile(file, data / "model.keras")
    (data / "keras_module.txt").write_text("keras", encoding="utf-8")
    about.add_flavor(
        "keras",
        data="data",
        keras_version=keras.__version__,
        keras_backend=keras.backend.backend(),
        save_exported_model=False,
        # `mlflow.tensorflow` looks here first.
        model_type=about.flavors["tensorflow"]["model_type"],
    )
    about.save(str(packed / "MLmodel"))


def _served(model: Any) -> Any:
    """A model as what MLflow calls; with several heads (deep supervision), the last one answers."""
    import tensorflow as tf

    (given,) = model.inputs

    class Served(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(name="served")
            self.kept = [variable.value for variable in model.variables]

        @tf.function(  # type: ignore[untyped-decorator]
            input_signature=[tf.TensorSpec(given.shape, given.dtype)]
        )
        def __call__(self, images: Any) -> Any:
            return _head_of(model(images, training=False))

    return Served()


def _head_of(outputs: Any) -> Any:
    return outputs["head"] if isinstance(outputs, dict) else outputs


def _requirements() -> list[str]:
    """What a model needs.

    MLflow would find it by starting a Python process that imports TensorFlow.
    """
    import keras

    backend = keras.backend.backend()
    versions = {"keras": keras, "numpy": np, backend: importlib.import_module(backend)}
    return [f"{name}=={module.__version__}" for name, module in versions.items()]


def _example(path: Path, shape: ImageShape) -> Any:
    """The example image; noise of this shape if there is none."""
    if path.exists():
        return np.load(path)
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def _raw(image: Any, dtype: str, peak: float | None) -> Any:
    """An image as it was before it was scaled."""
    if dtype == "uint8":
        return np.clip(np.rint(255 * image), 0, 255).astype(np.uint8)
    return (image * (peak or 1)).astype(np.float32)
