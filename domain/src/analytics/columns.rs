//! The columns of figures, which are the same in every table of them, written once.

/// What is counted, in the order of the tables.
const COLUMNS: [&str; 10] = [
    "bookings",
    "tickets",
    "gross",
    "failed",
    "cancellations",
    "cancelled_tickets",
    "refunds",
    "refunded_bookings",
    "refunded",
    "holds",
];

/// All that figures are counted from, as far as it is counted.
const EVERYTHING: &str = "SELECT event_id, at, {names} FROM booking_log_figures
    WHERE id <= (SELECT log_id FROM analytics_offset)
    UNION ALL SELECT event_id, at, {names} FROM hold_count_figures";

/// Who stands for all organizers in the totals.
const EVERYBODY: &str = "'00000000-0000-0000-0000-000000000000'::uuid";

/// Writes the columns out in a statement: `{names}`, `{counts}` and `{sums}` of what the statement calls `c`, `{added}`
/// to and `{taken}` from the table that it calls `t`, `{zeroed c}` and `{zeroed t}`, where a missing row is zeros, and
/// `{none}`, all but holds as zeros; `{everything}`, `{everybody}`, and `{summed}`, which adds what the statement calls
/// `counted` to every table but that of events.
pub(super) fn spell_out(statement: &str) -> String {
    let each = |column: &dyn Fn(&str) -> String| COLUMNS.map(column).join(", ");
    let none: Vec<_> =
        COLUMNS.iter().filter(|name| **name != "holds").map(|name| format!("0 AS {name}")).collect();
    [
        ("{summed}", include_str!("sql/summed.sql").trim_end().to_owned()),
        ("{everything}", EVERYTHING.to_owned()),
        ("{everybody}", EVERYBODY.to_owned()),
        ("{names}", each(&str::to_owned)),
        ("{counts}", each(&|name| format!("coalesce(c.{name}, 0) AS {name}"))),
        ("{sums}", each(&|name| format!("sum(c.{name})::bigint AS {name}"))),
        ("{added}", each(&|name| format!("{name} = t.{name} + excluded.{name}"))),
        ("{taken}", each(&|name| format!("{name} = t.{name} - c.{name}"))),
        ("{zeroed c}", each(&|name| format!("coalesce(c.{name}, 0)"))),
        ("{zeroed t}", each(&|name| format!("coalesce(t.{name}, 0)"))),
        ("{none}", none.join(", ")),
    ]
    .iter()
    .fold(statement.to_owned(), |text, (mark, columns)| text.replace(mark, columns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_to_spell_out() {
        let spelt = spell_out(
            "{names} {counts} {sums} {added} {taken} {zeroed c} {zeroed t} {none} {summed} {everything} {everybody}",
        );
        assert!(!spelt.contains('{'), "{spelt}");
        assert!(spelt.contains("gross = t.gross + excluded.gross"), "{spelt}");
        assert!(spelt.contains("0 AS refunded") && !spelt.contains("0 AS holds"), "{spelt}");
    }
}
