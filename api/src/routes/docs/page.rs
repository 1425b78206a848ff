//! The documentation as one page: every operation with its fields, errors and an example to paste.

use serde_json::Value;

use super::{
    example, html,
    html::{escape, marked, paragraphs},
    schema,
};
use crate::error::Code;

/// One operation with where it is found.
struct Operation<'a> {
    method: &'a str,
    path: &'a str,
    tag: &'a str,
    it: &'a Value,
}

impl Operation<'_> {
    fn id(&self) -> &str {
        self.it["operationId"].as_str().unwrap_or("")
    }

    fn summary(&self) -> &str {
        self.it["summary"].as_str().unwrap_or_else(|| self.id())
    }
}

pub(super) fn render(document: &Value) -> String {
    let operations: Vec<_> = operations(document);
    let tags: Vec<_> = document["tags"].as_array().into_iter().flatten().collect();
    let of_tag = |tag: &Value| {
        let name = tag["name"].clone();
        operations.iter().filter(move |operation| name == operation.tag)
    };
    let menu: String = tags
        .iter()
        .map(|tag| {
            let name = tag["name"].as_str().unwrap_or("");
            let links: String = of_tag(tag).map(menu_link).collect();
            format!(
                "<section><h2><a href=\"#{}\">{}</a></h2><ul>{links}</ul></section>",
                anchor(name),
                escape(name)
            )
        })
        .collect();
    let sections: String = tags
        .iter()
        .map(|tag| {
            let name = tag["name"].as_str().unwrap_or("");
            let articles: String = of_tag(tag).map(|operation| article(document, operation)).collect();
            format!(
                "<section class=\"tag\" id=\"{}\"><h2>{}</h2><p class=\"lead\">{}</p>{articles}</section>",
                anchor(name),
                escape(name),
                marked(tag["description"].as_str().unwrap_or("")),
            )
        })
        .collect();
    let info = &document["info"];
    let body = format!(
        "<aside><a class=\"brand\" href=\"#top\">Evently <small>API {version}</small></a>\
         <input id=\"search\" type=\"search\" placeholder=\"Filter  /\" aria-label=\"Filter operations\" hidden>\
         <nav>{menu}<section><h2><a href=\"#errors\">Errors</a></h2></section>\
         <section><h2><a href=\"#schemas\">Schemas</a></h2></section></nav></aside>\
         <main id=\"top\"><header><h1>{title} API</h1><p class=\"lead\">{summary}</p>{about}\
         <p class=\"links\"><a href=\"/openapi.json\">OpenAPI 3.1 document</a></p></header>\
         {sections}{errors}{schemas}</main>",
        version = escape(info["version"].as_str().unwrap_or("")),
        title = escape(info["title"].as_str().unwrap_or("")),
        summary = marked(info["summary"].as_str().unwrap_or("")),
        about = paragraphs(info["description"].as_str().unwrap_or("")),
        errors = errors(),
        schemas = schemas(document),
    );
    html::page("Evently API", &body)
}

fn operations(document: &Value) -> Vec<Operation<'_>> {
    let paths = document["paths"].as_object().into_iter().flatten();
    paths
        .flat_map(|(path, item)| {
            item.as_object().into_iter().flatten().map(move |(method, it)| Operation {
                method,
                path,
                tag: it["tags"][0].as_str().unwrap_or(""),
                it,
            })
        })
        .collect()
}

fn anchor(text: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-")
}

fn method(operation: &Operation<'_>) -> String {
    format!("<span class=\"method {0}\">{0}</span>", escape(operation.method))
}

/// A path with its parameters set off.
fn path(operation: &Operation<'_>) -> String {
    escape(operation.path).replace('{', "<i>{").replace('}', "}</i>").replace('/', "/<wbr>")
}

fn menu_link(operation: &Operation<'_>) -> String {
    format!(
        "<li data-find=\"{} {} {}\"><a href=\"#{}\">{}<span>{}</span></a></li>",
        escape(operation.method),
        escape(operation.path),
        escape(&operation.summary().to_lowercase()),
        operation.id(),
        method(operation),
        marked(operation.summary()),
    )
}

fn article(document: &Value, operation: &Operation<'_>) -> String {
    let it = operation.it;
    let badge = if it.get("security").is_some() { "<span class=\"badge\">bearer token</span>" } else { "" };
    let mut left = paragraphs(it["description"].as_str().unwrap_or(""));
    if left == "<p></p>" {
        left.clear();
    }
    for (place, title) in [("path", "Path"), ("query", "Query"), ("header", "Headers")] {
        left.push_str(&parameters(document, it, place, title));
    }
    if let Some(body) = json_schema(&it["requestBody"]) {
        left.push_str(&format!("<h4>Body</h4>{}", schema::fields(resolve(document, body))));
    }
    left.push_str(&responses(document, it));
    format!(
        "<article id=\"{id}\" data-find=\"{find}\"><h3><a href=\"#{id}\">{summary}</a></h3>\
         <p class=\"route\">{method}<code>{path}</code>{badge}</p>\
         <div class=\"columns\"><div>{left}</div><div class=\"examples\">{examples}</div></div></article>",
        id = operation.id(),
        find = escape(&format!(
            "{} {} {}",
            operation.method,
            operation.path,
            operation.summary().to_lowercase()
        )),
        summary = marked(operation.summary()),
        method = method(operation),
        path = path(operation),
        examples = examples(document, operation),
    )
}

/// The component behind a reference, or the schema itself.
fn resolve<'a>(document: &'a Value, it: &'a Value) -> &'a Value {
    it["$ref"].as_str().and_then(|name| document.pointer(name.strip_prefix('#')?)).unwrap_or(it)
}

/// The schema of a body or response that is JSON.
fn json_schema(it: &Value) -> Option<&Value> {
    it["content"]["application/json"].get("schema")
}

fn parameters(document: &Value, it: &Value, place: &str, title: &str) -> String {
    let all = it["parameters"].as_array().into_iter().flatten();
    let rows: String = all
        .map(|parameter| resolve(document, parameter))
        .filter(|parameter| parameter["in"] == place)
        .map(|parameter| {
            let name = parameter["name"].as_str().unwrap_or("");
            let about = parameter["description"].as_str().unwrap_or("");
            schema::row(name, &parameter["schema"], parameter["required"] == true, about, "")
        })
        .collect();
    if rows.is_empty() { rows } else { format!("<h4>{title}</h4><ul class=\"fields\">{rows}</ul>") }
}

fn responses(document: &Value, it: &Value) -> String {
    let all = it["responses"].as_object().into_iter().flatten().filter(|(status, _)| *status != "default");
    let (good, bad): (Vec<_>, Vec<_>) = all.partition(|(status, _)| status.starts_with(['2', '3']));
    let good: String = good
        .into_iter()
        .map(|(status, response)| {
            let headers: Vec<_> = response["headers"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, _)| format!("<code>{}</code>", escape(name)))
                .collect();
            let headers = if headers.is_empty() {
                String::new()
            } else {
                format!("<p>Headers: {}</p>", headers.join(", "))
            };
            let body = json_schema(response).map(|body| {
                let shown = schema::fields(resolve(document, body));
                format!(
                    "<details><summary>{}</summary>{shown}</details>",
                    strip_links(&schema::type_of(body))
                )
            });
            format!(
                "<li>{}<div>{}{headers}{}</div></li>",
                status_chip(status),
                marked(response["description"].as_str().unwrap_or("")),
                body.unwrap_or_default(),
            )
        })
        .collect();
    let bad: String = bad
        .into_iter()
        .map(|(status, response)| {
            let examples = response["content"]["application/problem+json"]["examples"].as_object();
            let codes: Vec<_> = examples
                .into_iter()
                .flatten()
                .map(|(code, _)| format!("<a href=\"#error-{0}\"><code>{0}</code></a>", escape(code)))
                .collect();
            format!("<li>{}<div>{}</div></li>", status_chip(status), codes.join(" "))
        })
        .collect();
    format!(
        "<h4>Answers</h4><ul class=\"answers\">{good}</ul>\
         <details class=\"errors\"><summary>Errors</summary><ul class=\"answers\">{bad}</ul></details>"
    )
}

fn strip_links(text: &str) -> String {
    text.split('<').map(|part| part.split_once('>').map_or(part, |(_, rest)| rest)).collect()
}

fn status_chip(status: &str) -> String {
    format!("<span class=\"status s{}\">{}</span>", escape(&status[..1]), escape(status))
}

/// The request as curl sends it, and the body of its first success.
fn examples(document: &Value, operation: &Operation<'_>) -> String {
    let it = operation.it;
    let mut curl = String::from("curl");
    if operation.method != "get" {
        curl.push_str(&format!(" -X {}", operation.method.to_uppercase()));
    }
    curl.push_str(&format!(" $EVENTLY{}", operation.path));
    if it.get("security").is_some() {
        curl.push_str(" \\\n  -H \"Authorization: Bearer $TOKEN\"");
    }
    for parameter in it["parameters"].as_array().into_iter().flatten() {
        if parameter["in"] == "header" && parameter["required"] == true {
            let name = schema::plain(&parameter["name"]);
            curl.push_str(&format!(" \\\n  -H '{name}: {}'", schema::plain(&parameter["example"])));
        }
    }
    if let Some(body) = json_schema(&it["requestBody"]) {
        let body = serde_json::to_string_pretty(&example::of(document, body)).unwrap_or_default();
        curl.push_str(&format!(" \\\n  --json '{body}'"));
    }
    let mut shown = format!("<p class=\"caption\">Request</p><pre>{}</pre>", escape(&curl));
    let answered = it["responses"].as_object().into_iter().flatten().find_map(|(status, response)| {
        Some((status, json_schema(response).filter(|_| status.starts_with('2'))?))
    });
    if let Some((status, body)) = answered {
        let body = serde_json::to_string_pretty(&example::of(document, body)).unwrap_or_default();
        shown.push_str(&format!("<p class=\"caption\">Answer {status}</p><pre>{}</pre>", escape(&body)));
    }
    shown
}

fn errors() -> String {
    let mut codes = Code::ALL.to_vec();
    codes.sort_by_key(|code| (code.status(), code.slug()));
    let rows: String = codes
        .iter()
        .map(|code| {
            format!(
                "<li id=\"error-{slug}\">{}<div><a href=\"/problems/{slug}\"><code>{slug}</code></a> \
                 <strong>{}</strong><div class=\"about\">{}</div></div></li>",
                status_chip(&code.status().to_string()),
                escape(code.title()),
                marked(code.explanation()),
                slug = code.slug(),
            )
        })
        .collect();
    format!("<section class=\"tag\" id=\"errors\"><h2>Errors</h2><ul class=\"answers\">{rows}</ul></section>")
}

fn schemas(document: &Value) -> String {
    let all: String = document["components"]["schemas"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, it)| {
            let name = escape(name);
            let about = it["description"].as_str().map(paragraphs).unwrap_or_default();
            format!("<article id=\"schema-{name}\"><h3><a href=\"#schema-{name}\">{name}</a></h3>{about}{}</article>", schema::fields(it))
        })
        .collect();
    format!("<section class=\"tag\" id=\"schemas\"><h2>Schemas</h2>{all}</section>")
}
