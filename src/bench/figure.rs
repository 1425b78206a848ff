//! One figure: what was measured, the limit it is compared with, and what it is worth.

use std::fmt::Write as _;

use serde::Serialize;

/// Whether more is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Better {
    More,
    Less,
}

/// What a figure is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mark {
    Aim,
    Reach,
    Below,
    /// Nothing is asked of it.
    None,
}

/// What the machine would do at best, measured in the same run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Limit {
    what: String,
    value: f64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    limit: Option<Limit>,
    /// The value by the limit, where there is one: then this is what the marks are about.
    ratio: Option<f64>,
    better: Better,
    reach: Option<f64>,
    aim: Option<f64>,
    mark: Mark,
    /// What else is worth knowing.
    note: String,
}

impl Figure {
    pub(super) fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            value,
            unit,
            limit: None,
            ratio: None,
            better: Better::More,
            reach: None,
            aim: None,
            mark: Mark::None,
            note: String::new(),
        }
    }

    pub(super) fn against(mut self, what: impl Into<String>, limit: f64) -> Self {
        self.ratio = (limit > 0.0).then(|| self.value / limit);
        self.limit = Some(Limit { what: what.into(), value: limit });
        self
    }

    /// Asks for at least so much, and better for `aim`. Call it after [`Figure::against`].
    pub(super) fn at_least(self, reach: f64, aim: f64) -> Self {
        self.marked(Better::More, reach, aim)
    }

    /// Asks for at most so much, and better for `aim`. Call it after [`Figure::against`].
    pub(super) fn at_most(self, reach: f64, aim: f64) -> Self {
        self.marked(Better::Less, reach, aim)
    }

    fn marked(mut self, better: Better, reach: f64, aim: f64) -> Self {
        let judged = self.ratio.unwrap_or(self.value);
        self.mark = mark(judged, better, reach, aim);
        (self.better, self.reach, self.aim) = (better, Some(reach), Some(aim));
        self
    }

    pub(super) fn note(mut self, note: impl AsRef<str>) -> Self {
        if !self.note.is_empty() {
            self.note.push_str("; ");
        }
        self.note.push_str(note.as_ref());
        self
    }

    #[cfg(test)]
    fn mark(&self) -> Mark {
        self.mark
    }

    /// The figure on a line of its own.
    pub(super) fn line(&self) -> String {
        let mut line = format!("{:<34} {:>12} {:<5}", self.name, number(self.value), self.unit);
        // Writing to a String cannot fail.
        let _ = match (&self.limit, self.ratio) {
            (Some(limit), Some(ratio)) => {
                write!(line, " {:>7} of {} {}", number(ratio), number(limit.value), limit.what)
            }
            (Some(limit), None) => write!(line, " {} measured nothing", limit.what),
            (None, _) => Ok(()),
        };
        if let (Some(reach), Some(aim)) = (self.reach, self.aim) {
            let word = match self.mark {
                Mark::Aim => "AIM",
                Mark::Reach => "reach",
                Mark::Below => "BELOW",
                Mark::None => "",
            };
            let _ = write!(line, " [reach {}, aim {}: {word}]", number(reach), number(aim));
        }
        if !self.note.is_empty() {
            let _ = write!(line, " ({})", self.note);
        }
        line
    }
}

fn mark(judged: f64, better: Better, reach: f64, aim: f64) -> Mark {
    let good_enough = |wanted: f64| match better {
        Better::More => judged >= wanted,
        Better::Less => judged <= wanted,
    };
    if good_enough(aim) {
        Mark::Aim
    } else if good_enough(reach) {
        Mark::Reach
    } else {
        Mark::Below
    }
}

/// A number with as many digits as mean something.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_or_less_is_better() {
        let of = |value, better| mark(value, better, 10.0, 5.0);
        assert_eq!(
            [4.0, 5.0, 7.0, 10.0, 11.0].map(|v| of(v, Better::Less)),
            [Mark::Aim, Mark::Aim, Mark::Reach, Mark::Reach, Mark::Below]
        );
        let of = |value| mark(value, Better::More, 0.6, 0.8);
        assert_eq!([0.59, 0.6, 0.79, 0.8].map(of), [Mark::Below, Mark::Reach, Mark::Reach, Mark::Aim]);
    }

    #[test]
    fn what_has_a_limit_is_judged_by_its_ratio() {
        let figure = Figure::new("x", 30_000.0, "/s").against("raw", 50_000.0).at_least(0.6, 0.8);
        assert_eq!(figure.mark(), Mark::Reach);
        let figure = Figure::new("x", 30_000.0, "/s").at_least(15_000.0, 30_000.0);
        assert_eq!(figure.mark(), Mark::Aim);
        assert_eq!(Figure::new("x", 1.0, "/s").mark(), Mark::None);
    }

    #[test]
    fn a_limit_that_was_not_measured_makes_no_ratio() {
        let figure = Figure::new("x", 1.0, "/s").against("raw", 0.0).at_least(0.6, 0.8);
        assert!(figure.ratio.is_none() && figure.line().contains("measured nothing"));
    }

    #[test]
    fn a_line_says_it_all() {
        let line = Figure::new("holds", 31_250.0, "/s").against("EVALSHA", 50_000.0).at_least(0.6, 0.8);
        let line = line.note("p99 4 ms").line();
        for part in
            ["holds", "31250 /s", "0.62 of 50000 EVALSHA", "reach 0.60, aim 0.80: reach", "(p99 4 ms)"]
        {
            assert!(line.contains(part), "{line}");
        }
    }
}
