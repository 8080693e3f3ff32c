// Reads the schemas of an OpenAPI 3.1 document: references, types in words, examples. No page is needed for it.

let root = {};

// The document that references point into.
export function setDocument(openapi) {
  root = openapi;
}

// What a $ref points at (RFC 6901), with what stands beside the $ref laid over it.
export function resolve(node) {
  const passed = new Set();
  while (node?.$ref && !passed.has(node.$ref)) {
    passed.add(node.$ref);
    const { $ref, ...beside } = node;
    const unescape = (step) => decodeURIComponent(step).replaceAll("~1", "/").replaceAll("~0", "~");
    const target = $ref.slice(2).split("/").map(unescape).reduce((at, step) => at?.[step], root);
    node = { ...target, ...beside };
  }
  return node ?? {};
}

export const alternatives = (schema) => schema.anyOf ?? schema.oneOf ?? [];
export const nameOf = (reference) => reference?.split("/").at(-1);

export function merged(node) {
  const { allOf = [], ...schema } = resolve(node);
  return allOf.map(merged).reduce(
    (whole, part) => ({
      ...whole,
      ...part,
      properties: { ...whole.properties, ...part.properties },
      required: [...(whole.required ?? []), ...(part.required ?? [])],
    }),
    schema,
  );
}

export function typeOf(node) {
  const schema = merged(node);
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
  // A name ends the description: what it stands for is listed below it, and may hold itself.
  if (node.$ref) return nameOf(node.$ref);
  if (alternatives(schema).length) return alternatives(schema).map(typeOf).join(" or ");
  if (schema.type === "array") return `list of ${typeOf(schema.items ?? {})}`;
  const type = [schema.type ?? (schema.properties ? "object" : "any value")].flat().join(" or ");
  return schema.format ? `${type} (${schema.format})` : type;
}

export function limitsOf(schema) {
  const named = { minLength: "at least", maxLength: "at most", minimum: "from", maximum: "to", pattern: "matching" };
  const limits = Object.entries(named).filter(([key]) => key in schema);
  const words = limits.map(([key, word]) => `${word} ${schema[key]}${key.endsWith("Length") ? " characters" : ""}`);
  if (schema.default !== undefined) words.push(`default ${JSON.stringify(schema.default)}`);
  return words.join(", ");
}

// A value that shows the shape of a schema; where the document has an example, that.
export function example(node, within = []) {
  if (node?.$ref && within.includes(node.$ref)) return null;
  const inside = node?.$ref ? [...within, node.$ref] : within;
  const schema = merged(node);
  const given = schema.examples?.[0] ?? schema.example ?? schema.default ?? schema.const ?? schema.enum?.[0];
  if (given !== undefined) return given;
  if (alternatives(schema).length) return example(alternatives(schema)[0], inside);
  if (schema.properties) {
    const values = Object.entries(schema.properties).map(([name, property]) => [name, example(property, inside)]);
    return Object.fromEntries(values);
  }
  if (schema.type === "array") return [example(schema.items ?? {}, inside)];
  const formats = { email: "name@example.com", date: "2030-01-31", "date-time": "2030-01-31T12:00:00Z" };
  const string = formats[schema.format] ?? schema.format ?? "text";
  const samples = { string, integer: schema.minimum ?? 1, number: 1, boolean: false };
  return samples[[schema.type].flat()[0]] ?? null;
}
