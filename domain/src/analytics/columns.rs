//! The columns of figures, which are the same in every table of them, written once.

/// What is counted, in the order of the tables.
pub(super) const COLUMNS: [&str; 9] = [
    "bookings",
    "tickets",
    "gross",
    "failed",
    "cancellations",
    "cancelled_tickets",
    "refunds",
    "refunded_bookings",
    "refunded",
];

/// Writes the columns out in a statement: `{names}`, `{counts}` and `{sums}` of what the statement calls `c`, `{added}`
/// to and `{taken}` from the table that it calls `t`, and `{zeroed c}` and `{zeroed t}`, where a missing row is zeros.
pub(super) fn spell_out(statement: &str) -> String {
    let each = |column: &dyn Fn(&str) -> String| COLUMNS.map(column).join(", ");
    [
        ("{names}", each(&str::to_owned)),
        ("{counts}", each(&|name| format!("coalesce(c.{name}, 0) AS {name}"))),
        ("{sums}", each(&|name| format!("sum(c.{name})::bigint AS {name}"))),
        ("{added}", each(&|name| format!("{name} = t.{name} + excluded.{name}"))),
        ("{taken}", each(&|name| format!("{name} = t.{name} - c.{name}"))),
        ("{zeroed c}", each(&|name| format!("coalesce(c.{name}, 0)"))),
        ("{zeroed t}", each(&|name| format!("coalesce(t.{name}, 0)"))),
    ]
    .iter()
    .fold(statement.to_owned(), |text, (mark, columns)| text.replace(mark, columns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_to_spell_out() {
        let spelt = spell_out("{names} {sums} {added} {taken} {zeroed c} {zeroed t}");
        assert!(!spelt.contains('{'), "{spelt}");
        assert!(spelt.contains("gross = t.gross + excluded.gross"), "{spelt}");
    }
}
