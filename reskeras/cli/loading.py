"""Importing TensorFlow without its chatter."""

import contextlib
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

# TensorFlow 2.21 writes these whatever TF_CPP_MIN_LOG_LEVEL says, because they come before its logging is set up.
_CHATTER = re.compile(
    rb"WARNING: All log messages before absl::|[IW]\d{4} \d\d:|To enable the following instructions:|\d{4}-\d\d-\d\d .*: [IW] "
)
_NO_GPU = re.compile(rb"E\d{4} .*(cuInit|cuda_platform)")


@contextlib.contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Within it TensorFlow may be imported and made to look for devices; its news is dropped, its errors are shown after it.

    What Python itself writes to `sys.stderr` meanwhile is shown at once.
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
            # Left open: log handlers made meanwhile keep it.
            sys.stderr = previous
            held.seek(0)
            # Without a driver "failed call to cuInit" is no error.
            no_gpu = not Path("/dev/nvidia0").exists() and not Path("/dev/nvidiactl").exists()
            for line in held:
                if not _CHATTER.match(line) and not (no_gpu and _NO_GPU.match(line)):
                    os.write(2, line)


def load_keras() -> None:
    """Imports Keras and lets its backend find its devices."""
    import keras

    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.list_logical_devices()
        # It warns of every new network that it traces a step anew, which is what a search is.
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
