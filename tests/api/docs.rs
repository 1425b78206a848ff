//! The documentation as a reader sees it, in a real browser without a network.

use std::{path::PathBuf, process::Stdio, time::Duration};

use tokio::process::Command;

use crate::support::{app::TestApp, children};

fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&path)
        .flat_map(|dir| names.map(|name| dir.join(name)))
        .find(|candidate| candidate.is_file())
}

#[tokio::test]
async fn a_browser_shows_every_operation() {
    let Some(browser) = browser() else {
        assert!(std::env::var_os("CI").is_none(), "CI has no chromium");
        eprintln!("skipped: there is no chromium here");
        return;
    };
    let app = TestApp::start().await;
    let profile = children::root().join("chromium");
    let dump = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(["--dump-dom", &format!("{}/docs", app.url)])
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let dump = tokio::time::timeout(Duration::from_mins(2), dump).await.unwrap().unwrap();
    let page = String::from_utf8(dump.stdout).unwrap();
    assert!(page.contains("<article id=\"register\""), "{page:.500}");
    assert!(page.contains("v1/<wbr>auth/<wbr>register"), "the path is shown");
    // The script has run: the policy lets it, and it found its box.
    let search = page.split("id=\"search\"").nth(1).unwrap().split('>').next().unwrap();
    assert!(!search.contains("hidden"), "{search}");

    let document = app.get("/openapi.json").await.expect(200);
    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(page.contains(&format!("id=\"{id}\"")), "{id} is not on the page");
        }
    }
    for code in api::error::Code::ALL {
        assert!(page.contains(&format!("id=\"error-{}\"", code.slug())), "{}", code.slug());
    }
}
