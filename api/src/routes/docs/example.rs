//! An example of what a schema describes: its own where it has one, else one made from its types.

use serde_json::{Map, Value, json};

/// How deep examples nest before they are cut off: schemas may refer to themselves.
const MAX_DEPTH: usize = 6;

/// A value that the schema allows.
pub(super) fn of(document: &Value, schema: &Value) -> Value {
    at(document, schema, 0)
}

fn at(document: &Value, schema: &Value, depth: usize) -> Value {
    if depth > MAX_DEPTH {
        return Value::Null;
    }
    if let Some(name) = super::schema::referred(schema) {
        return at(document, &document["components"]["schemas"][name], depth + 1);
    }
    if let Some(example) = schema.get("example").or_else(|| schema["examples"].get(0)) {
        return example.clone();
    }
    if let Some(value) =
        schema.get("const").or_else(|| schema["enum"].get(0)).or_else(|| schema.get("default"))
    {
        return value.clone();
    }
    if let Some(all) = schema["allOf"].as_array() {
        let parts = all.iter().filter_map(|part| match at(document, part, depth + 1) {
            Value::Object(fields) => Some(fields),
            _ => None,
        });
        return Value::Object(parts.flatten().collect());
    }
    for choice in ["oneOf", "anyOf"] {
        let real = schema[choice].as_array().and_then(|all| all.iter().find(|one| one["type"] != "null"));
        if let Some(one) = real {
            return at(document, one, depth + 1);
        }
    }
    match super::schema::kind(schema) {
        "object" => {
            let fields = schema["properties"].as_object().into_iter().flatten();
            let fields: Map<_, _> =
                fields.map(|(name, field)| (name.clone(), at(document, field, depth + 1))).collect();
            Value::Object(fields)
        }
        "array" => json!([at(document, &schema["items"], depth + 1)]),
        "integer" => schema.get("minimum").cloned().unwrap_or(json!(1)),
        "number" => json!(1.5),
        "boolean" => json!(true),
        "string" => json!(match schema["format"].as_str() {
            Some("uuid") => "01932f0c-5f6e-7b3a-9d2c-3f1a2b4c5d6e",
            Some("date-time") => "2026-11-20T19:30:00Z",
            Some("date") => "2026-11-20",
            Some("email") => "ada@evently.test",
            Some("uri") => "https://example.test/",
            _ => "…",
        }),
        _ => Value::Null,
    }
}
