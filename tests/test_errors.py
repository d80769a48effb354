"""Errors in one line: texts as Python, TensorFlow 2.21, Keras, SQLAlchemy and MLflow print them."""

import errno
import traceback

import pytest

from reskeras.errors import hide_passwords, in_a_line

STACK = (
    'Detected at node n defined at (most recent call last):\n  File "a.py", line 1, in <module>\n'
)
OOM = (
    f'Graph execution error:\n\n{STACK}\n  File "b.py", line 64, in call_with_layout\n\n'
    "OOM when allocating tensor with shape[20000,20000] and type float on /job:localhost\n"
    "\t [[{{node ones}}]]\nHint: If you want to see a list of allocated tensors when OOM happens\n"
    " [Op:__inference_big_39]"
)
SHAPES = (
    f"Graph execution error:\n\n{STACK}\n"
    "Matrix size-incompatible: In[0]: [2,3], In[1]: [4,5]\n"
    "\t [[{{node MatMul}}]] [Op:__inference_mm2_23]"
)
EAGER = (
    "{{function_node __wrapped__MatMul_device_/job:localhost/replica:0/task:0/device:CPU:0}} "
    "Matrix size-incompatible: In[0]: [2,3], In[1]: [4,5] [Op:MatMul] name: "
)
TRACED = (
    'in user code:\n\n    File "/tmp/t.py", line 4, in mm  *\n        def mm(a,b): return a @ b\n\n'
    "    ValueError: Dimensions must be equal, but are 3 and 4 for '{{node MatMul}} = MatMul'\n"
)
LAYER = (
    "Exception encountered when calling Sequential.call().\n\n"
    "\x1b[1mInput 0 of layer 'dense' is incompatible with the layer\x1b[0m\n\n"
    "Arguments received by Sequential.call():\n  • training=None"
)
SQL = (
    "(sqlite3.OperationalError) no such table: nope\n[SQL: select * from nope]\n"
    "(Background on this error at: https://sqlalche.me/e/21/e3q8)"
)


def kept(error: BaseException) -> str:
    """The traceback as a record keeps it."""
    try:
        raise error
    except type(error):
        return "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            OOM,
            "OOM when allocating tensor with shape[20000,20000] and type float on /job:localhost",
        ),
        (SHAPES, "Matrix size-incompatible: In[0]: [2,3], In[1]: [4,5]"),
        (EAGER, "Matrix size-incompatible: In[0]: [2,3], In[1]: [4,5]"),
        (TRACED, "Dimensions must be equal, but are 3 and 4 for '{{node MatMul}} = MatMul'"),
        (LAYER, "Input 0 of layer 'dense' is incompatible with the layer"),
        (SQL, "(sqlite3.OperationalError) no such table: nope"),
        ("\nfirst: wrong\nsecond: wrong too", "first: wrong"),
    ],
)
def test_the_reason_is_found_in_what_libraries_print(text: str, line: str) -> None:
    assert in_a_line(text) == line
    assert in_a_line(RuntimeError(text)) == line
    assert in_a_line(kept(ValueError(text))) == f"ValueError: {line}"


def test_of_a_chain_the_last_error_is_told() -> None:
    error = LookupError("no a")
    error.__cause__ = KeyError("a")
    kept(error.__cause__)  # which gives it a traceback
    assert in_a_line(kept(error)) == "LookupError: no a"


@pytest.mark.parametrize("error", [ValueError(), ValueError("  \n")])
def test_an_error_without_text_is_its_type(error: Exception) -> None:
    assert in_a_line(error) == "ValueError"
    assert in_a_line(kept(error)) == "ValueError"


def test_types_from_modules_are_told_without_them() -> None:
    text = "Traceback (most recent call last):\n  File 'a', line 1, in b\na.b.C"
    assert in_a_line(text) == "C"
    assert in_a_line(f"{text}: it broke\nmore") == "C: it broke"


def test_system_errors_and_keys() -> None:
    assert in_a_line(OSError(errno.ENOSPC, "No space left on device")) == "No space left on device"
    assert in_a_line(FileNotFoundError(2, "No such file or directory", "a.npz")) == (
        "a.npz: No such file or directory"
    )
    assert in_a_line(KeyError("width")) == "KeyError: 'width'"
    assert in_a_line(None) == in_a_line("") == ""


@pytest.mark.parametrize(
    ("address", "printed"),
    [
        ("http://me:secret@host/x", "http://***@host/x"),
        ("postgresql://me:p/w@p@host/x", "postgresql://***@host/x"),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
    ],
)
def test_passwords_are_not_printed(address: str, printed: str) -> None:
    assert hide_passwords(address) == printed
