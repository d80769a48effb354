"""Measurements in separate processes, so no trace, cache or heap biases the next one."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any


def in_child(script: str, *words: object) -> dict[str, Any]:
    """Runs `script --child WORDS...` and returns the JSON object that it prints last."""
    command = [sys.executable, script, *(part for word in words for part in ("--child", str(word)))]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def cpu_seconds(work: Callable[[], Any]) -> float:
    """CPU seconds of this process, all threads: more reliable than wall time if shared."""
    start = time.process_time()
    work()
    return time.process_time() - start
