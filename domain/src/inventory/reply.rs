//! Reads a script's answer, item by item.

use chrono::{DateTime, Utc};
use redis::Value;
use uuid::Uuid;

use crate::fault::Fault;

/// What a script said, from first to last. Anything unexpected is [`Fault::Corrupt`].
pub(crate) struct Reply(std::vec::IntoIter<Value>);

impl Reply {
    pub(crate) fn new(value: Value) -> Result<Self, Fault> {
        match value {
            Value::Array(items) => Ok(Self(items.into_iter())),
            other => Err(unexpected("an array", &other)),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    pub(crate) fn text(&mut self) -> Result<String, Fault> {
        match self.next()? {
            Value::BulkString(bytes) => String::from_utf8(bytes).map_err(|e| Fault::Corrupt(e.to_string())),
            Value::SimpleString(text) => Ok(text),
            other => Err(unexpected("text", &other)),
        }
    }

    /// An integer, in either of the forms that Lua answers.
    pub(crate) fn int(&mut self) -> Result<i64, Fault> {
        match self.next()? {
            Value::Int(number) => Ok(number),
            Value::BulkString(bytes) => std::str::from_utf8(&bytes)
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| Fault::Corrupt("a script's number is none".to_owned())),
            other => Err(unexpected("a number", &other)),
        }
    }

    pub(crate) fn id(&mut self) -> Result<Uuid, Fault> {
        self.text()?.parse().map_err(|_| Fault::Corrupt("a script's id is none".to_owned()))
    }

    /// A time in milliseconds.
    pub(crate) fn time(&mut self) -> Result<DateTime<Utc>, Fault> {
        let ms = self.int()?;
        DateTime::from_timestamp_millis(ms).ok_or_else(|| Fault::Corrupt(format!("no time: {ms}")))
    }

    /// Whatever it is: one of several answers, say.
    pub(crate) fn value(&mut self) -> Result<Value, Fault> {
        self.next()
    }

    fn next(&mut self) -> Result<Value, Fault> {
        self.0.next().ok_or_else(|| Fault::Corrupt("a script's answer is too short".to_owned()))
    }
}

fn unexpected(wanted: &str, got: &Value) -> Fault {
    Fault::Corrupt(format!("a script answered {got:?} in place of {wanted}"))
}
