//! `evently doctor`: looks at everything that Evently needs, and says what is wrong and what to do about it.

mod machine;
mod servers;

use std::{fmt, io::Write};

use anyhow::bail;
use domain::config::Env;

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Ok,
    /// Works, but not as it should in production.
    Warning,
    /// Does not work, or may lose something.
    Problem,
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub struct Finding {
    pub verdict: Verdict,
    /// What was looked at, in a word or two.
    pub about: &'static str,
    pub says: String,
    /// What to do about it; empty where all is well.
    pub remedy: String,
}

impl Finding {
    fn ok(about: &'static str, says: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, about, says: says.into(), remedy: String::new() }
    }

    fn warning(about: &'static str, says: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warning, about, says: says.into(), remedy: remedy.into() }
    }

    fn problem(about: &'static str, says: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Problem, about, says: says.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Problem => "problem",
        };
        // A server's message may have lines of its own; a finding is one.
        let says = self.says.split_whitespace().collect::<Vec<_>>().join(" ");
        write!(f, "{verdict:<8} {:<13} {says}", self.about)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, ": {}", self.remedy) }
    }
}

/// Prints a line a finding. Fails when one of them is a problem.
pub async fn run(env: Env) -> anyhow::Result<()> {
    let findings = examine(&env).await?;
    let mut stdout = std::io::stdout();
    for finding in &findings {
        writeln!(stdout, "{finding}")?;
    }
    match findings.iter().filter(|finding| finding.verdict == Verdict::Problem).count() {
        0 => Ok(()),
        1 => bail!("there is a problem"),
        problems => bail!("there are {problems} problems"),
    }
}

/// Looks at everything. Changes nothing; takes seconds where a server does not answer.
pub async fn examine(env: &Env) -> anyhow::Result<Vec<Finding>> {
    let here = env.clone();
    let machine = tokio::task::spawn_blocking(move || machine::examine(&here));
    let (postgres, redis, smtp, machine) =
        tokio::join!(servers::postgres(env), servers::redis(env), servers::smtp(env), machine);
    Ok([postgres, redis, smtp, machine?].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line() {
        let finding = Finding::problem("Redis", "refused\n  here", "start it");
        assert_eq!(finding.to_string(), "problem  Redis         refused here: start it");
        assert_eq!(Finding::ok("SMTP", "fine").to_string(), "ok       SMTP          fine");
    }
}
