"""Finds a TFDS data set by its name, and downloads and prepares it if needed."""

import contextlib
import io
import logging
import sys
import threading
from pathlib import Path
from typing import Any

from reskeras.data.embedded import EMBEDDED, embedded
from reskeras.errors import RequestError, did_you_mean, in_a_line
from reskeras.words import printable

_NETWORK_SECONDS = 5.0
_PROBE_URL = "https://storage.googleapis.com"
"""Where TFDS itself looks first for any data set."""


def builder_of(name: str, data_dir: str | None) -> Any:
    """The TFDS builder of a data set.

    Args:
        name: with a configuration and a version, as TFDS writes it.
        data_dir: the folder of TFDS data sets; None: TFDS' own.

    Raises:
        RequestError: no such data set, configuration or version.
    """
    import tensorflow_datasets as tfds

    # TFDS warns of every folder that it has yet to fill
    logging.getLogger("absl").setLevel(logging.ERROR)
    if data_dir is not None and Path(data_dir).is_file():
        raise RequestError(f"--data-dir {printable(data_dir)}: a file, not a folder")
    if (builder := embedded(name, data_dir)) is not None:
        return builder
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError as error:
        known = [*EMBEDDED, *tfds.list_builders(with_community_datasets=False)]
        near = (
            did_you_mean(name, known)
            or "; https://www.tensorflow.org/datasets/catalog/overview lists them;"
        )
        raise RequestError(
            f"unknown data set {name!r}{near} --data takes `digits`, a TFDS name, a folder of "
            "images, a CSV of paths and labels, or an .npz"
        ) from error
    except (ValueError, AssertionError, RuntimeError, ImportError) as error:
        # An unknown configuration or version, or a missing extra
        raise RequestError(
            f"data set {name!r} cannot be opened: {in_a_line(error)}{_configurations(name)}"
        ) from error


def _configurations(name: str) -> str:
    """The known configurations of a data set, if the name asks for another one."""
    import tensorflow_datasets as tfds

    base, slash, rest = name.partition("/")
    config = rest.partition(":")[0]
    if not slash or base not in tfds.list_builders(with_community_datasets=False):
        return ""
    known = sorted(tfds.builder_cls(base).builder_configs)
    if config in known:
        return ""
    return did_you_mean(config, known) or f"; its configurations: {_few(known) or 'none'}"


def _few(names: list[str]) -> str:
    return ", ".join(names if len(names) <= 8 else [*names[:7], "..."])


def prepare(builder: Any, name: str) -> None:
    """Downloads and prepares a data set; shows progress on a terminal.

    Raises:
        RequestError: that is not possible here; the message says what is missing.
    """
    import requests
    import tensorflow_datasets as tfds

    by_hand = _check_manual(builder, name)
    online = name in EMBEDDED or _network_answers()
    if not online and not by_hand:
        raise RequestError(
            f"data set {name!r} is not on this machine and must be downloaded, but the network "
            "does not answer. Prepare it "
            'on a machine with a network by `python -c "import tensorflow_datasets as tfds; '
            f"tfds.builder('{name}')"
            f'.download_and_prepare()"`, and copy ~/tensorflow_datasets/{builder.name} to '
            f"{builder.data_dir_root} here "
            "(or point --data-dir at it). `--data digits` needs no download."
        )
    tfds.display_progress_bar(name not in EMBEDDED and sys.stderr.isatty())
    failed = f"data set {name!r} cannot be prepared in {builder.data_dir_root}"
    try:
        # TFDS reports to standard output, which is for results. For the embedded digits, which it
        # calls a download, it reports nothing new.
        with contextlib.redirect_stdout(io.StringIO() if name in EMBEDDED else sys.stderr):
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(try_download_gcs=online)
            )
    except (
        requests.RequestException,
        tfds.download.DownloadError,
        tfds.download.download_manager.NonMatchingChecksumError,
        tfds.download.extractor.ExtractError,
    ) as error:
        raise RequestError(
            f"data set {name!r} cannot be downloaded: {in_a_line(error)}; the same command tries "
            "again, and keeps the files that are complete"
        ) from error
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        told = (
            "is made by Apache Beam, which takes hours on one machine; prepare it by TFDS "
            "elsewhere, and point --data-dir at it"
            if package == "apache_beam"
            else f"needs the Python package {package or in_a_line(error)}; install it"
        )
        raise RequestError(f"data set {name!r} {told}") from error
    except OSError as error:
        raise RequestError(
            f"{failed}: {in_a_line(error)}; --data-dir or TFDS_DATA_DIR set another folder"
        ) from error
    except (AssertionError, ValueError, NotImplementedError) as error:
        # TFDS' own checks, such as of a version that only an older TFDS can make
        raise RequestError(f"{failed}: {in_a_line(error)}") from error


def _check_manual(builder: Any, name: str) -> bool:
    """Whether a data set is downloaded by hand, and is.

    Raises:
        RequestError: it must be, and is not.
    """
    if not (told := builder.MANUAL_DOWNLOAD_INSTRUCTIONS):
        return False
    folder = Path(builder.data_dir_root).expanduser() / "downloads" / "manual"
    if not folder.is_dir() or not any(folder.iterdir()):
        raise RequestError(
            f"data set {name!r} must be downloaded by hand to {printable(folder)}: "
            f"{' '.join(told.split())}"
        )
    return True


def _network_answers() -> bool:
    # Looking up a host name has no time limit. A thread asks, and is abandoned if it does not
    # return.
    import requests

    answered = threading.Event()

    def ask() -> None:
        try:
            requests.head(_PROBE_URL, timeout=_NETWORK_SECONDS)
        except requests.RequestException:
            return  # the event stays unset, which is the answer
        answered.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_NETWORK_SECONDS)
    return answered.is_set()
