//! Bits of HTML that pages share: escaping, the little markup that descriptions use, and the frame.

use axum::http::{HeaderName, header};

/// Pages load nothing but this server's own style and script.
pub(in crate::routes) const POLICY: (HeaderName, &str) = (
    header::CONTENT_SECURITY_POLICY,
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src data:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'",
);

pub(in crate::routes) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Escapes a text, and shows `code` and **strong** in it as such.
pub(in crate::routes) fn marked(text: &str) -> String {
    let mut html = String::new();
    for (i, part) in text.split('`').enumerate() {
        if i % 2 == 1 {
            html.push_str(&format!("<code>{}</code>", escape(part)));
            continue;
        }
        for (i, part) in part.split("**").enumerate() {
            let part = escape(part);
            html.push_str(&if i % 2 == 1 { format!("<strong>{part}</strong>") } else { part });
        }
    }
    html
}

/// The same, with a paragraph for each block.
pub(in crate::routes) fn paragraphs(text: &str) -> String {
    text.split("\n\n").map(|block| format!("<p>{}</p>", marked(block))).collect()
}

/// A whole page around a body.
pub(in crate::routes) fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <link rel=\"icon\" href=\"data:,\"><link rel=\"stylesheet\" href=\"/docs/style.css\">\
         <script src=\"/docs/search.js\" defer></script></head><body>{body}</body></html>",
        escape(title)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_inside_and_outside_of_markup() {
        assert_eq!(
            marked("a < `b > c` & **d \"e\"**"),
            "a &lt; <code>b &gt; c</code> &amp; <strong>d &quot;e&quot;</strong>"
        );
    }
}
