//! How the sandbox misbehaves when a token asks for it: `tok_<operation>_<effect>[_<times>]`, several joined by `+`.
//!
//! `tok_capture_lose` takes the money of its charge and loses the answer, once; `tok_void_fail_3+refund_slow` fails to
//! void three times, then does, and is slow to give money back. Operations: `authorise`, `capture`, `void`, `refund`.

use std::time::Duration;

/// How long a caller waits for an answer that was lost.
pub(super) const LOST_AFTER: Duration = Duration::from_secs(1);
/// How long the slow one takes.
pub(super) const SLOW: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing is done, and the answer is an error that says nothing.
    Fail,
    /// Nothing is done, for good.
    Refuse,
    /// It is done, and the answer comes late.
    Slow,
    /// It is done, and the answer never comes.
    Lose,
}

/// What a token asks for of one operation, and how often; none for a token without such wishes.
pub(super) fn asked(token: &str, operation: &str) -> Option<(Effect, i32)> {
    wishes(token)?.into_iter().find(|(name, ..)| *name == operation).map(|(_, effect, times)| (effect, times))
}

/// Whether a token is of this kind, and does not refuse to be charged.
pub(super) fn is_charged(token: &str) -> bool {
    wishes(token).is_some() && asked(token, "authorise").is_none_or(|(effect, _)| effect != Effect::Refuse)
}

fn wishes(token: &str) -> Option<Vec<(&str, Effect, i32)>> {
    token.strip_prefix("tok_")?.split('+').map(wish).collect()
}

fn wish(text: &str) -> Option<(&str, Effect, i32)> {
    let mut words = text.split('_');
    let operation = words.next()?;
    if !matches!(operation, "authorise" | "capture" | "void" | "refund") {
        return None;
    }
    let effect = match words.next()? {
        "fail" => Effect::Fail,
        "refuse" => Effect::Refuse,
        "slow" => Effect::Slow,
        "lose" => Effect::Lose,
        _ => return None,
    };
    let times = words.next().map_or(Some(1), |times| times.parse().ok())?;
    words.next().is_none().then_some((operation, effect, times))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_say_what_goes_wrong() {
        assert_eq!(asked("tok_capture_lose", "capture"), Some((Effect::Lose, 1)));
        assert_eq!(asked("tok_capture_lose", "void"), None);
        let both = "tok_void_fail_3+refund_slow";
        assert_eq!(asked(both, "void"), Some((Effect::Fail, 3)));
        assert_eq!(asked(both, "refund"), Some((Effect::Slow, 1)));
        assert!(is_charged(both) && !is_charged("tok_authorise_refuse"));
        for plain in
            ["tok_ok", "tok_timeout", "tok_declined", "tok_void", "tok_void_fail_x", "void_fail", "pm_1"]
        {
            assert!(!is_charged(plain), "{plain}");
        }
    }
}
