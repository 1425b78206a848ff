//! Fields that cannot be written: what a check finds, each with a pointer to where it stands in the request.

/// A field at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// RFC 6901 pointer into the body.
    pub pointer: String,
    /// What is wrong with it, for people.
    pub detail: String,
}

impl FieldError {
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

/// Collects what is wrong, so that a client learns of all of it at once.
#[derive(Debug, Default)]
pub struct Check {
    errors: Vec<FieldError>,
}

impl Check {
    pub fn ensure(&mut self, holds: bool, pointer: &str, detail: &str) {
        if !holds {
            self.errors.push(FieldError::new(pointer, detail));
        }
    }

    /// One line of text: not blank, no control characters, at most `max` characters.
    pub fn line(&mut self, pointer: &str, value: &str, max: usize) {
        self.ensure(!value.trim().is_empty(), pointer, "must not be blank");
        self.ensure(!value.chars().any(char::is_control), pointer, "must not hold control characters");
        self.ensure(value.chars().count() <= max, pointer, &format!("must have {max} characters at most"));
    }

    /// Text of several lines, possibly empty, at most `max` characters.
    pub fn text(&mut self, pointer: &str, value: &str, max: usize) {
        let odd = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
        self.ensure(!value.chars().any(odd), pointer, "must not hold control characters");
        self.ensure(value.chars().count() <= max, pointer, &format!("must have {max} characters at most"));
    }

    pub fn range(&mut self, pointer: &str, value: i64, range: std::ops::RangeInclusive<i64>) {
        let (low, high) = (range.start(), range.end());
        self.ensure(range.contains(&value), pointer, &format!("must be between {low} and {high}"));
    }

    /// What was found, as an error, if anything was.
    pub fn finish(self) -> Result<(), Vec<FieldError>> {
        if self.errors.is_empty() { Ok(()) } else { Err(self.errors) }
    }
}
