//! HTTP/1.1 as far as a load generator needs it: requests rendered once, answers read without copying.

/// A request whose idempotency key is written into it each time it is sent.
#[derive(Clone, Debug)]
pub(super) struct Keyed {
    bytes: Vec<u8>,
    key_at: usize,
}

const KEY_DIGITS: usize = 16;

impl Keyed {
    /// A POST of JSON by the owner of this token.
    pub(super) fn post(path: &str, token: &str, body: &str) -> Self {
        let slot = "0".repeat(KEY_DIGITS);
        let bytes = post(path, token, &format!("Idempotency-Key: {slot}\r\n"), body);
        // `post` wrote it a line above.
        let key_at = find(&bytes, slot.as_bytes()).expect("the key is in the request");
        Self { bytes, key_at }
    }

    /// Appends the request under this key.
    pub(super) fn write(&self, key: u64, out: &mut Vec<u8>) {
        let begin = out.len() + self.key_at;
        out.extend_from_slice(&self.bytes);
        for (digit, byte) in out[begin..begin + KEY_DIGITS].iter_mut().rev().enumerate() {
            *byte = b"0123456789abcdef"[(key >> (4 * digit) & 15) as usize];
        }
    }
}

/// A POST of JSON; `headers` are whole lines.
pub(super) fn post(path: &str, token: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n{headers}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A GET, by anybody or by the owner of a token.
pub(super) fn get(path: &str, token: Option<&str>) -> Vec<u8> {
    let who = token.map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
    format!("GET {path} HTTP/1.1\r\nHost: bench\r\n{who}\r\n").into_bytes()
}

/// An answer, as it lies in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer<'a> {
    pub(super) status: u16,
    pub(super) body: &'a [u8],
    /// How many bytes it takes up.
    pub(super) length: usize,
}

/// What came is no answer that this generator understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an answer that is not HTTP/1.1 with a Content-Length")
    }
}

impl std::error::Error for Unreadable {}

impl<'a> Answer<'a> {
    /// The first answer in the buffer, once all of it is there.
    pub(super) fn parse(buffer: &'a [u8]) -> Result<Option<Self>, Unreadable> {
        let Some(head) = head_length(buffer) else { return Ok(None) };
        let status = buffer
            .strip_prefix(b"HTTP/1.1 ")
            .and_then(|rest| std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok())
            .ok_or(Unreadable)?;
        let body = match content_length(&buffer[..head]) {
            Some(length) => length,
            None if matches!(status, 204 | 304) => 0,
            None => return Err(Unreadable),
        };
        let length = head + body;
        Ok(buffer.get(head..length).map(|body| Answer { status, body, length }))
    }

    /// The value of the first member of this name, which is a string without escapes: an id.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        let begin = find(self.body, format!("\"{name}\":\"").as_bytes())? + name.len() + 4;
        let length = self.body[begin..].iter().position(|byte| *byte == b'"')?;
        std::str::from_utf8(&self.body[begin..begin + length]).ok()
    }
}

fn head_length(buffer: &[u8]) -> Option<usize> {
    find(buffer, b"\r\n\r\n").map(|at| at + 4)
}

fn content_length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let name = line.get(..NAME.len()).filter(|name| name.eq_ignore_ascii_case(NAME))?;
        std::str::from_utf8(&line[name.len()..]).ok()?.trim().parse().ok()
    })
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = wanted.first()?;
    let mut from = 0;
    while let Some(at) = text.get(from..)?.iter().position(|byte| byte == first) {
        if text[from + at..].starts_with(wanted) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_into_the_request() {
        let request = Keyed::post("/v1/x", "t", "{}");
        let mut out = b"before".to_vec();
        request.write(0xabc, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("beforePOST /v1/x HTTP/1.1\r\n"), "{text}");
        assert!(text.contains("\r\nIdempotency-Key: 0000000000000abc\r\n"), "{text}");
        assert!(text.ends_with("Content-Length: 2\r\n\r\n{}"), "{text}");
    }

    #[test]
    fn answers_are_read_once_they_are_whole() {
        let bytes = b"HTTP/1.1 201 Created\r\nContent-Length: 14\r\nx: y\r\n\r\n{\"id\":\"abc\",1}HTTP/1.1 2";
        for length in 0..64 {
            assert_eq!(Answer::parse(&bytes[..length]), Ok(None), "{length}");
        }
        let answer = Answer::parse(bytes).unwrap().unwrap();
        assert_eq!((answer.status, answer.length, answer.text("id")), (201, 64, Some("abc")));
        assert_eq!(answer.text("other"), None);
        let none = Answer::parse(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().unwrap();
        assert_eq!((none.status, none.body), (204, &b""[..]));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        assert_eq!(Answer::parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"), Err(Unreadable));
        assert_eq!(Answer::parse(b"220 smtp\r\n\r\n"), Err(Unreadable));
    }

    #[test]
    fn finds_what_begins_with_a_false_start() {
        assert_eq!(find(b"\r\r\n\r\n", b"\r\n\r\n"), Some(1));
        assert_eq!(find(b"aaab", b"aab"), Some(1));
        assert_eq!(find(b"a", b"ab"), None);
    }
}
