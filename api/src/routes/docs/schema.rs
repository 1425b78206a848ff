//! How the page shows a schema: a list of fields, each with its type, its limits and what it means.

use serde_json::Value;

use super::html::{escape, marked};

/// The component that a schema is a reference to.
pub(super) fn referred(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.strip_prefix("#/components/schemas/")
}

/// The type, leaving `null` aside; `object` where only properties tell it.
pub(super) fn kind(schema: &Value) -> &str {
    let named = schema["type"]
        .as_str()
        .or_else(|| schema["type"].as_array()?.iter().filter_map(Value::as_str).find(|kind| *kind != "null"));
    named.unwrap_or(if schema.get("properties").is_some() { "object" } else { "any" })
}

fn is_nullable(schema: &Value) -> bool {
    schema["type"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "null"))
        || ["oneOf", "anyOf"].iter().any(|choice| {
            schema[*choice].as_array().is_some_and(|all| all.iter().any(|one| one["type"] == "null"))
        })
}

/// The type in a few words, with links to components.
pub(super) fn type_of(schema: &Value) -> String {
    let mut text = match referred(schema) {
        Some(name) => format!("<a href=\"#schema-{0}\">{0}</a>", escape(name)),
        None => spelled(schema),
    };
    if is_nullable(schema) {
        text.push_str(" or null");
    }
    text
}

fn spelled(schema: &Value) -> String {
    for (choice, word) in [("oneOf", " or "), ("anyOf", " or "), ("allOf", " and ")] {
        if let Some(all) = schema[choice].as_array() {
            let real: Vec<_> = all.iter().filter(|one| one["type"] != "null").map(type_of).collect();
            return real.join(word);
        }
    }
    if kind(schema) == "array" {
        return format!("list of {}", type_of(&schema["items"]));
    }
    match schema["format"].as_str() {
        Some(format) if kind(schema) == "string" => escape(format),
        _ => kind(schema).to_owned(),
    }
}

/// Limits, choices and the default, for a schema of one value.
fn limits(schema: &Value) -> String {
    const NAMES: [(&str, &str); 8] = [
        ("minimum", "≥ "),
        ("maximum", "≤ "),
        ("minLength", "length ≥ "),
        ("maxLength", "length ≤ "),
        ("minItems", "items ≥ "),
        ("maxItems", "items ≤ "),
        ("pattern", "matches "),
        ("default", "default "),
    ];
    let mut parts: Vec<_> = NAMES
        .iter()
        .filter_map(|(key, words)| Some(format!("{words}<code>{}</code>", escape(&plain(schema.get(*key)?)))))
        .collect();
    if let Some(choices) = schema["enum"].as_array() {
        let choices: Vec<_> =
            choices.iter().map(|choice| format!("<code>{}</code>", escape(&plain(choice)))).collect();
        parts.push(choices.join(" | "));
    }
    parts.join(" · ")
}

/// A value as text: strings without their quotes.
pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// One row: a name, its type, whether it must be there, its limits and its description.
pub(super) fn row(name: &str, schema: &Value, is_required: bool, description: &str, below: &str) -> String {
    let required = if is_required { "<span class=\"required\">required</span>" } else { "" };
    let limits = limits(schema);
    let limits = if limits.is_empty() { limits } else { format!("<span class=\"limits\">{limits}</span>") };
    let description = if description.is_empty() {
        String::new()
    } else {
        format!("<div class=\"about\">{}</div>", marked(description))
    };
    format!(
        "<li><span class=\"name\">{}</span> <span class=\"type\">{}</span> {required}{limits}{description}{below}</li>",
        escape(name),
        type_of(schema),
    )
}

/// The fields of a schema; objects inside it unfold, components are links.
pub(super) fn fields(schema: &Value) -> String {
    if let Some(all) = schema["allOf"].as_array() {
        return all.iter().map(fields).collect();
    }
    if kind(schema) == "array" {
        return fields(&schema["items"]);
    }
    for choice in ["oneOf", "anyOf"] {
        if let Some(all) = schema[choice].as_array() {
            let real: Vec<_> = all.iter().filter(|one| one["type"] != "null").map(fields).collect();
            let real: Vec<_> = real.into_iter().filter(|one| !one.is_empty()).collect();
            return real.join("<p class=\"or\">or</p>");
        }
    }
    let Some(properties) = schema["properties"].as_object() else {
        let limits = limits(schema);
        let link = type_of(schema);
        let text = if limits.is_empty() { link } else { format!("{link} · {limits}") };
        return format!("<p class=\"type\">{text}</p>");
    };
    let required: Vec<_> = schema["required"].as_array().into_iter().flatten().collect();
    let rows: String = properties
        .iter()
        .map(|(name, field)| {
            let inner = if kind(field) == "array" { &field["items"] } else { field };
            let below = if inner.get("properties").is_some() { fields(inner) } else { String::new() };
            let is_required = required.iter().any(|present| *present == name);
            row(name, field, is_required, field["description"].as_str().unwrap_or(""), &below)
        })
        .collect();
    format!("<ul class=\"fields\">{rows}</ul>")
}
