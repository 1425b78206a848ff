//! Lines of CSV that a spreadsheet opens as what they are: text stays text, whatever somebody wrote into it.

/// A text as a field: quoted, and never taken for a formula.
///
/// Spreadsheets evaluate a cell that begins with one of some signs, in quotes or not; an apostrophe before it makes it
/// text. Leading blanks are skipped by some, and the full-width forms of the signs count for others.
pub(crate) fn text(text: &str) -> String {
    let formula = text.trim_start().starts_with(['=', '+', '-', '@', '|', '%', '＝', '＋', '－', '＠'])
        || text.starts_with(['\t', '\r', '\n']);
    let guard = if formula { "'" } else { "" };
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}

/// Fields as a line, as RFC 4180 ends it. Numbers, dates and ids need no quotes.
pub(crate) fn line(fields: &[String]) -> String {
    fields.join(",") + "\r\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_quoted_and_no_formula() {
        for (written, field) in [
            ("Harbour Night", r#""Harbour Night""#),
            ("a, \"b\"\r\nc", "\"a, \"\"b\"\"\r\nc\""),
            ("=HYPERLINK(\"http://x\")", r#""'=HYPERLINK(""http://x"")""#),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("  =1", "\"'  =1\""),
            ("\tx", "\"'\tx\""),
            ("\rx", "\"'\rx\""),
            ("＝1", "\"'＝1\""),
            ("1-2=3", "\"1-2=3\""),
            ("", "\"\""),
        ] {
            assert_eq!(text(written), field, "{written:?}");
        }
    }
}
