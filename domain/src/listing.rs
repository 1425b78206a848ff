//! Lists: how many entries a page has, and the cursor that opens the next one.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

/// Entries of a page unless the client says otherwise.
pub const DEFAULT_LIMIT: u32 = 20;
/// The most entries of a page.
pub const MAX_LIMIT: u32 = 100;

/// A page, as every list answers it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Page<T> {
    pub data: Vec<T>,
    /// Opens the next page; none on the last.
    pub next_cursor: Option<String>,
}

/// The cursor is none of ours, or of a list with other filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cursor belongs to another list, or was altered")]
pub struct InvalidCursor;

/// Ties cursors to one list and its filters: a cursor that is used with others is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 8]);

impl Fingerprint {
    /// Of a list's name and its filters, whose serialised form must be the same whenever they mean the same.
    pub fn of<F: Serialize>(list: &str, filters: &F) -> Self {
        let mut hash = Sha256::new_with_prefix(list);
        hash.update([0]);
        // Filters are structs of plain fields, which always have a JSON form.
        hash.update(serde_json::to_vec(filters).expect("filters serialise"));
        let digest: [u8; 32] = hash.finalize().into();
        Self(std::array::from_fn(|at| digest[at]))
    }

    /// The cursor after the entry with this position.
    pub fn cursor<P: Serialize>(self, position: &P) -> String {
        let mut bytes = self.0.to_vec();
        // Positions are tuples of integers and ids, which always have a JSON form.
        bytes.extend(serde_json::to_vec(position).expect("positions serialise"));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The position in a cursor of this very list.
    pub fn position<P: DeserializeOwned>(self, cursor: &str) -> Result<P, InvalidCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| InvalidCursor)?;
        let position = bytes.strip_prefix(&self.0).ok_or(InvalidCursor)?;
        serde_json::from_slice(position).map_err(|_| InvalidCursor)
    }

    /// Cuts what was read with one entry more than the limit down to a page; `position` is an entry's place.
    pub fn page<T, P: Serialize>(self, mut data: Vec<T>, limit: u32, position: impl Fn(&T) -> P) -> Page<T> {
        let limit = limit as usize;
        let more = data.len() > limit;
        data.truncate(limit);
        let next_cursor = data.last().filter(|_| more).map(|last| self.cursor(&position(last)));
        Page { data, next_cursor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_opens_its_own_list_only() {
        let list = Fingerprint::of("events", &("music", 5));
        let cursor = list.cursor(&(17_i64, "x"));
        assert_eq!(list.position::<(i64, String)>(&cursor), Ok((17, "x".to_owned())));
        let other = Fingerprint::of("events", &("art", 5));
        assert_eq!(other.position::<(i64, String)>(&cursor), Err(InvalidCursor));
        assert_eq!(list.position::<(i64, String)>("!"), Err(InvalidCursor));
        assert_eq!(list.position::<(i64, String)>(""), Err(InvalidCursor));
    }

    #[test]
    fn pages() {
        let list = Fingerprint::of("numbers", &());
        let page = list.page(vec![1, 2, 3], 2, |n| *n);
        assert_eq!(page.data, [1, 2]);
        assert_eq!(page.next_cursor.map(|cursor| list.position::<i32>(&cursor)), Some(Ok(2)));
        assert_eq!(list.page(vec![1, 2], 2, |n| *n).next_cursor, None);
    }
}
