//! Lists over HTTP: the limit of a page, and the link to the next one.

use axum::http::{HeaderMap, HeaderValue, Uri, header};
use domain::listing::{DEFAULT_LIMIT, MAX_LIMIT};
use url::form_urlencoded;

use crate::error::{ApiError, ApiResult, Code};

/// The limit that a client asks for, or the default.
pub fn limit(asked: Option<u32>) -> ApiResult<u32> {
    let limit = asked.unwrap_or(DEFAULT_LIMIT);
    if (1..=MAX_LIMIT).contains(&limit) {
        Ok(limit)
    } else {
        Err(ApiError::new(Code::InvalidParameter, format!("limit: must be between 1 and {MAX_LIMIT}.")))
    }
}

/// A cursor that fits no list with these filters.
pub fn invalid_cursor() -> ApiError {
    ApiError::new(Code::InvalidParameter, "cursor: belongs to a list with other filters, or was altered.")
}

/// `Link: …; rel="next"` to the same list from this cursor on; nothing on the last page.
pub fn next_link(uri: &Uri, cursor: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(cursor) = cursor {
        let present = form_urlencoded::parse(uri.query().unwrap_or("").as_bytes());
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(present.filter(|(name, _)| name != "cursor"))
            .append_pair("cursor", cursor)
            .finish();
        // Serialised forms are ASCII without quotes or line breaks, and so is the path of one of our routes.
        let link = HeaderValue::from_str(&format!("<{}?{query}>; rel=\"next\"", uri.path()));
        headers.extend(link.ok().map(|link| (header::LINK, link)));
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        assert_eq!(limit(None).unwrap(), 20);
        assert_eq!(limit(Some(100)).unwrap(), 100);
        assert_eq!(limit(Some(0)).unwrap_err().code(), Code::InvalidParameter);
        assert_eq!(limit(Some(101)).unwrap_err().code(), Code::InvalidParameter);
    }

    #[test]
    fn the_next_link_keeps_the_filters() {
        let uri = "/v1/events?city=K%C3%B6ln&cursor=old&limit=2".parse().unwrap();
        let link = next_link(&uri, Some("new"));
        assert_eq!(link[header::LINK], "</v1/events?city=K%C3%B6ln&limit=2&cursor=new>; rel=\"next\"");
        assert!(next_link(&uri, None).is_empty());
    }
}
