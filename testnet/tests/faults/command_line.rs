//! Does the README's first command keep its word: a summary, the right exit, and nothing left behind?

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use crate::{EXECUTABLE, turn};

fn testnet(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(EXECUTABLE);
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    command
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    testnet(folder, arguments).output().expect("the testnet runs")
}

fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Processes that have `folder` on their command line: validators of a run in it.
#[cfg(target_os = "linux")]
fn processes_in(folder: &Path) -> Vec<u32> {
    let folder = folder.to_str().expect("a temporary folder has a plain name");
    let ids = fs::read_dir("/proc").expect("Linux has /proc").flatten();
    ids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|id| {
            let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(folder)
        })
        .collect()
}

#[tokio::test]
async fn a_short_run_keeps_every_promise_and_leaves_nothing_behind() {
    let _turn = turn().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = run(folder.path(), &["--for", "5s"]);
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    assert_eq!(text.matches("kept  ").count(), 7, "{text}");
    assert!(!text.contains("BROKEN") && text.contains("4 of 4 validators ready"), "{text}");
    assert!(!text.contains('\x1b'), "no escape codes where there is no terminal: {text}");
    let left: Vec<_> = fs::read_dir(folder.path()).expect("readable").flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_load_is_measured_and_told_as_json() {
    let _turn = turn().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = run(
        folder.path(),
        &["load", "--rate", "100", "--for", "4s", "--warm-up", "1s", "--poisson", "--json", "--dir", "run"],
    );
    assert!(output.status.success(), "{}", text(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    let step = &report["steps"][0];
    assert_eq!(step["refused"], 0, "{report:#}");
    assert_eq!(step["missing"], 0, "{report:#}");
    assert_eq!(step["repeated"], 0, "{report:#}");
    assert_eq!(step["accepted"], step["bundles"], "{report:#}");
    assert!(step["latency"]["count"].as_u64().is_some_and(|count| count > 300), "{report:#}");
    assert!(folder.path().join("run/genesis.json").exists(), "a folder that was asked for is kept");
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn validators_do_not_outlive_a_testnet_that_is_killed() {
    let _turn = turn().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = folder.path().join("run");
    let place_text = place.to_str().expect("a plain name");
    let mut child = testnet(folder.path(), &["--dir", place_text]).stdout(Stdio::null()).spawn().expect("it starts");
    let deadline = Instant::now() + Duration::from_secs(60);
    while processes_in(&place).len() < 5 {
        assert!(Instant::now() < deadline, "the testnet has not started its validators");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    child.kill().expect("killed");
    child.wait().expect("gone");
    let deadline = Instant::now() + Duration::from_secs(10);
    while !processes_in(&place).is_empty() {
        assert!(Instant::now() < deadline, "still there: {:?}", processes_in(&place));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_folder_with_something_in_it_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("precious"), "x").expect("written");
    let output = run(folder.path(), &["--dir", ".", "--for", "1s"]);
    assert!(!output.status.success());
    assert!(text(&output).contains("is not empty"), "{}", text(&output));
    assert!(folder.path().join("precious").exists());
}

#[tokio::test]
async fn the_help_teaches_the_other_commands() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = run(folder.path(), &["--help"]);
    assert!(output.status.success());
    for word in ["--for", "--keep", "load", "restarts", "cargo run --release"] {
        assert!(text(&output).contains(word), "{word} is missing in\n{}", text(&output));
    }
}
