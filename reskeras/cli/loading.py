"""Imports TensorFlow without its log messages."""

import contextlib
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from reskeras.errors import RequestError

# TensorFlow 2.21 writes these whatever TF_CPP_MIN_LOG_LEVEL is, before it sets up its logging.
_CHATTER = re.compile(
    rb"WARNING: All log messages before absl::|[IW]\d{4} \d\d:"
    rb"|To enable the following instructions:|\d{4}-\d\d-\d\d .*: [IW] "
    # These name no error: it computes something else to the same end, or reads what it wrote.
    rb"|E\d{4} .* (?:oneDNN supports DT_[A-Z0-9]+ only|NodeDef mentions attribute "
    rb"|remapper failed: )"
    rb"|INFO: |fully_quantize: "  # TFLite's interpreter and its converter
)
# The first form is TensorFlow 2.21's, the second 2.20's.
_NO_GPU = re.compile(rb"(E\d{4}|\d{4}-\d\d-\d\d [\d:.]+: E) .*(cuInit|cuda_platform)")


@contextlib.contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Drops TensorFlow's log lines while it is imported and looks for devices.

    Its errors are shown at the end of the context. What Python writes to `sys.stderr` is shown at
    once.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only, from then on
    sys.stderr.flush()
    terminal, previous = os.dup(2), sys.stderr
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        sys.stderr = os.fdopen(terminal, "w", buffering=1, encoding="utf-8", errors="replace")
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            # Left open: log handlers created in the context keep it.
            sys.stderr = previous
            held.seek(0)
            # Without a driver, "failed call to cuInit" is not an error.
            no_gpu = not Path("/dev/nvidia0").exists() and not Path("/dev/nvidiactl").exists()
            for line in held:
                if not _CHATTER.match(line) and not (no_gpu and _NO_GPU.match(line)):
                    os.write(2, line)


def load_keras_on_tensorflow() -> None:
    """Imports Keras with TensorFlow, whatever backend is configured: it reads all `.keras` files.

    Raises:
        RequestError: this process has imported Keras with another backend.
    """
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "tensorflow"
    load_keras()
    import keras

    if keras.config.backend() != "tensorflow":
        raise RequestError(
            f"Keras runs on {keras.config.backend()} here, and this needs TensorFlow; set the "
            "environment variable KERAS_BACKEND=tensorflow"
        )


def load_keras() -> None:
    """Imports Keras and lets its backend find its devices."""
    import keras

    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.list_logical_devices()
        # It warns about retracing for every new network, and a search has many.
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
