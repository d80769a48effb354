"""Specs as YAML and JSON Schema, and errors that say where, what was found and what is right."""

import dataclasses
import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from reskeras.errors import RequestError, did_you_mean
from reskeras.spec import AnySpec, Augmentation, Recipe, Spec, TrainSpec
from reskeras.spec.augment import AugmentField, word_of
from reskeras.spec.recipes import filled, training_recipes

_MAX_BYTES = 1_000_000
_MAX_DEPTH = 40
_MAX_NODES = 20_000
"""Far more than any spec holds. The limit stops a few lines of aliases from expanding to
gigabytes."""

_SPEC: TypeAdapter[AnySpec] = TypeAdapter(Spec)
_TRAIN: TypeAdapter[TrainSpec] = TypeAdapter(TrainSpec)
_AUGMENT: TypeAdapter[Augmentation] = TypeAdapter(AugmentField)


def load_spec(path: str | Path) -> AnySpec:
    """Reads a spec from a YAML (or JSON) file.

    Returns:
        A `ResNet`, `DenseNet`, `UNet` or `Hourglass`. A `train:` section is checked but not
        returned (see `load_recipe`).

    Raises:
        RequestError: one line for every mistake in the file.
    """
    return load_recipe(path).spec


def load_recipe(path: str | Path) -> Recipe:
    """Reads a spec and its optional `train:` section from a YAML (or JSON) file.

    Raises:
        RequestError: one line for every mistake in the file.
    """
    return parse_recipe(read_document(path), where=str(path))


def dump_spec(spec: AnySpec) -> str:
    """Returns the spec as YAML that `load_spec` reads back to an equal value."""
    return dump_document(to_document(spec))


def dump_recipe(recipe: Recipe) -> str:
    """Returns a recipe as YAML that `load_recipe` reads back to an equal value."""
    return dump_document(to_document(recipe.spec) | {"train": to_document(recipe.train)})


def schema() -> dict[str, Any]:
    """JSON Schema of a spec file, for completion and validation in editors."""
    document = _SPEC.json_schema()
    train = _TRAIN.json_schema()
    document["$defs"] |= train.pop("$defs", {})
    recipe = {
        "enum": list(training_recipes()),
        "description": "A training recipe, which sets the fields that are not given.",
    }
    train["properties"] = {"recipe": recipe} | train["properties"]
    for name in document["discriminator"]["mapping"].values():
        document["$defs"][name.rpartition("/")[2]]["properties"]["train"] = {
            "anyOf": [{"$ref": "#/$defs/TrainSpec"}, recipe]
        }
    document["$defs"]["TrainSpec"] = train
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "reskeras spec",
        **document,
    }


def read_document(path: str | Path) -> dict[str, Any]:
    """Reads a YAML mapping with limits on size, depth and number of nodes after alias expansion.

    Raises:
        RequestError: the file cannot be read, is not YAML, is not a mapping, or repeats a key.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise RequestError(f"{path}: {error.strerror}") from error
    if len(raw) > _MAX_BYTES:
        raise RequestError(f"{path}: larger than {_MAX_BYTES:,} bytes; a spec is a few hundred")
    loader = None
    try:
        loader = yaml.SafeLoader(raw.decode("utf-8"))
        node = loader.get_single_node()
        if node is not None:
            _check_bounds(node, str(path))
        document = loader.construct_document(node) if node is not None else None
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: not a text file (byte {error.start} is not UTF-8)") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else f"{path}"
        raise RequestError(f"{where}: not YAML: {error.problem or error}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"{path}: not YAML: {error}") from error
    finally:
        if loader is not None:
            loader.dispose()
    if not isinstance(document, dict):
        found = "an empty file" if document is None else f"a {type(document).__name__}"
        raise RequestError(
            f"{path}: a spec is a mapping such as `reskeras show resnet20` prints, but this is "
            f"{found}"
        )
    return document


def parse_recipe(document: dict[str, Any], where: str) -> Recipe:
    """Checks a document returned by `read_document`; `where` starts each error line.

    Raises:
        RequestError: one line for every mistake.
    """
    network = {key: value for key, value in document.items() if key != "train"}
    lines = []
    spec: Any = None
    train = TrainSpec()
    try:
        spec = _SPEC.validate_python(network)
    except ValidationError as error:
        lines += error_lines(error, network, where)
    given = document.get("train", {})
    try:
        train = _TRAIN.validate_python(filled(given))
    except ValidationError as error:
        lines += error_lines(error, given, where, prefix="train")
    except RequestError as error:
        lines.append(f"{where}: train.recipe: {error}")
    if lines:
        raise RequestError("\n".join(lines))
    return Recipe(spec=spec, train=train)


def to_document(value: Any) -> Any:
    """Returns a spec as plain mappings, lists and scalars, without fields that are None.

    Of an augmentation, it returns the name, or what is on: most are off.
    """
    if isinstance(value, Augmentation):
        return word_of(value) or _what_is_on(value)
    if dataclasses.is_dataclass(value):
        # The family's own fields come first, then the options that it shares with others.
        own = type(value).__annotations__
        names = sorted(
            (field.name for field in dataclasses.fields(value)), key=lambda name: name not in own
        )
        return {
            name: to_document(item) for name in names if (item := getattr(value, name)) is not None
        }
    if isinstance(value, list | tuple):
        return [to_document(item) for item in value]
    return value


def parse_augmentation(text: str, where: str) -> Augmentation:
    """Reads an augmentation as `train.augment` has it: a name, or a YAML mapping on one line.

    Raises:
        RequestError: one line for every mistake.
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RequestError(f"{where}: not YAML (got {text!r})") from error
    try:
        return _AUGMENT.validate_python(document)
    except ValidationError as error:
        raise RequestError("\n".join(error_lines(error, document, where))) from error


def write_augmentation(augmentation: Augmentation) -> str:
    """An augmentation in the form that `parse_augmentation` reads."""
    return _flow(to_document(augmentation))


def spelled_out(augmentation: Augmentation) -> dict[str, Any]:
    """An augmentation with all its fields, as plain mappings, lists and scalars."""
    return {
        field.name: to_document(getattr(augmentation, field.name))
        for field in dataclasses.fields(augmentation)
    }


def dump_document(document: dict[str, Any]) -> str:
    """YAML with one line per key; small mappings and lists stay on one line."""
    lines = []
    for key, value in document.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines.append(f"{key}:")
            lines += [f"  - {_flow(item)}" for item in value]
        else:
            lines.append(f"{key}: {_flow(value)}")
    return "\n".join(lines) + "\n"


def error_lines(error: ValidationError, document: Any, where: str, prefix: str = "") -> list[str]:
    """Formats each mistake of a pydantic error as `where: path.in.document: message (got x)`."""
    lines = []
    keys = list(document) if isinstance(document, dict) else []
    mistakes = error.errors(include_url=False)
    paths = {id(mistake): _path_in_document(mistake["loc"], document) for mistake in mistakes}
    mistakes.sort(
        key=lambda m: (
            keys.index(paths[id(m)][0]) if paths[id(m)] and paths[id(m)][0] in keys else len(keys)
        )
    )
    for mistake in mistakes:
        deeper = any(
            len(m["loc"]) > len(mistake["loc"])
            and m["loc"][: len(mistake["loc"])] == mistake["loc"]
            for m in mistakes
        )
        if mistake["type"] == "too_short" and deeper:
            continue  # wrong only because its items are, which have lines of their own
        path = paths[id(mistake)]
        place = ".".join(part for part in (prefix, *path) if part)
        lines.append(
            ": ".join(part for part in (where, place, _message(mistake, path, document)) if part)
        )
    return lines


def _what_is_on(value: Any) -> dict[str, Any]:
    return {
        field.name: _what_is_on(item) if dataclasses.is_dataclass(item) else to_document(item)
        for field in dataclasses.fields(value)
        if (item := getattr(value, field.name)) != field.default
    }


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1_000_000)
    return text.removesuffix("\n").removesuffix("\n...")


def _path_in_document(loc: tuple[int | str, ...], document: Any) -> list[str]:
    # pydantic puts the tag of a union into the path (`block.dense.growth_rate`). The file has no
    # such key.
    path: list[str] = []
    for part in loc:
        if part in ("by_preset", "number", "word"):
            continue
        if path and not isinstance(document, dict | list | tuple) and document is not None:
            break
        if (
            isinstance(document, dict)
            and part not in document
            and part in (document.get("kind"), document.get("family"))
        ):
            continue
        path.append(str(part))
        if isinstance(document, dict):
            document = document.get(part)
        elif isinstance(document, list | tuple) and isinstance(part, int) and part < len(document):
            document = document[part]
    return path


def _message(mistake: Any, path: list[str], document: Any) -> str:
    kind, context = mistake["type"], mistake.get("ctx", {})
    got = f" (got {_shorten(mistake['input'])})"
    match kind:
        case "unexpected_keyword_argument":
            if path == ["vary"]:
                return "this is a search space; `reskeras tune` takes it"
            known = _known_keys(_at(document, path[:-1]), path[-1])
            near = did_you_mean(path[-1], known) or f"; known here: {', '.join(known)}"
            return f"unknown key{near}{got}"
        case "missing" | "missing_keyword_only_argument" | "missing_argument":
            return "this key is missing"
        case "union_tag_not_found":
            return f"the key {context['discriminator']} is missing{got}"
        case "union_tag_invalid":
            known = [word.strip("'") for word in context["expected_tags"].split(", ")]
            what = context["discriminator"].strip("'")
            near = did_you_mean(context["tag"], known) or ";"
            return f"unknown {what} {context['tag']!r}{near} known: {', '.join(known)}"
        case "literal_error":
            known = [
                word.strip("'") for word in context["expected"].replace(" or ", ", ").split(", ")
            ]
            near = did_you_mean(mistake["input"], known)
            return f"unknown value{near}{got}; known: {', '.join(known)}".replace("?;", "?")
        case "value_error":
            return str(context["error"])
        case _:
            message: str = mistake["msg"]
            return message[0].lower() + message[1:] + got


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _at(document: Any, path: list[str]) -> Any:
    for part in path:
        document = document[int(part)] if isinstance(document, list | tuple) else document[part]
    return document


def _known_keys(parent: dict[str, Any], key: str) -> list[str]:
    """The keys of the type that a mapping names, otherwise of the type it resembles most."""
    tags = {parent.get("kind"), parent.get("family")} - {None}
    definitions = [
        definition["properties"]
        for definition in schema()["$defs"].values()
        if "properties" in definition
    ]

    def likeness(properties: dict[str, Any]) -> tuple[bool, int, float]:
        named = (
            any(properties.get(tag, {}).get("const") in tags for tag in ("kind", "family"))
            if tags
            else True
        )
        nearest = max(difflib.SequenceMatcher(None, key, name).ratio() for name in properties)
        return named, len(parent.keys() & properties.keys()), nearest

    return [name for name in max(definitions, key=likeness) if name not in parent]


def _check_bounds(root: yaml.Node, where: str) -> None:
    sizes: dict[int, int] = {}

    def size(node: yaml.Node, depth: int) -> int:
        if depth > _MAX_DEPTH:
            raise RequestError(
                f"{where}:{node.start_mark.line + 1}: nested more than {_MAX_DEPTH} deep"
            )
        if id(node) not in sizes:
            children: list[yaml.Node] = []
            if isinstance(node, yaml.MappingNode):
                children = [child for pair in node.value for child in pair]
                _check_keys(node, where)
            elif isinstance(node, yaml.SequenceNode):
                children = node.value
            sizes[id(node)] = 1 + sum(size(child, depth + 1) for child in children)
        return sizes[id(node)]

    if size(root, 0) > _MAX_NODES:
        raise RequestError(
            f"{where}: more than {_MAX_NODES:,} values once its aliases are expanded"
        )


def _check_keys(node: yaml.MappingNode, where: str) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise RequestError(f"{where}:{line}: a key is a word, not a list or a mapping")
        if key.value in seen:
            raise RequestError(f"{where}:{line}: the key {key.value!r} is there twice")
        seen.add(key.value)
