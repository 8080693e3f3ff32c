"""An example of a value for a JSON Schema, for the document of the API."""

from typing import Any

JSONSchema = dict[str, Any]
_TEXTS = {
    "email": "ada@example.com",
    "date-time": "2026-03-01T09:30:00Z",
    "date": "2026-03-01",
    "password": "correct horse battery",
}


def example_of(schema: JSONSchema, components: JSONSchema, name: str = "", depth: int = 0) -> Any:
    """A value that the schema allows; its own example or default where it has one."""
    if "$ref" in schema:
        return example_of(components[schema["$ref"].rpartition("/")[2]], components, name, depth)
    for given in ("const", "default"):
        if given in schema:
            return schema[given]
    for several in ("examples", "enum"):
        if schema.get(several):
            return schema[several][0]
    for union in ("anyOf", "oneOf", "allOf"):
        if union in schema:
            return example_of(schema[union][0], components, name, depth)
    match schema.get("type"):
        case "object":
            properties = schema.get("properties", {})
            return {each: example_of(inner, components, each, depth + 1) for each, inner in properties.items()}
        case "array":
            inner = schema.get("items", {})
            least = schema.get("minItems", 0 if depth > 3 or not inner else 1)
            return [example_of(inner, components, name, depth + 1)] * least
        case "integer" | "number":
            return max(1, schema.get("minimum", 1))
        case "boolean":
            return True
        case "string":
            return _text(schema, name)
    return None


def _text(schema: JSONSchema, name: str) -> str:
    kind = schema.get("format") or name
    text = _TEXTS.get(kind) or f"{name.replace('_', ' ') or 'text'}".capitalize()
    text = text.ljust(schema.get("minLength", 0), ".")
    return text[: schema["maxLength"]] if "maxLength" in schema else text
