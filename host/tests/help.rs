//! What `--help` says, word for word: people and scripts read it.
#![allow(clippy::unwrap_used, reason = "tests")]

use etl_testkit::project::Project;
use expect_test::{ExpectFile, expect_file};

fn check(args: &[&str], golden: &ExpectFile) {
    let project = Project::new(env!("CARGO_BIN_EXE_etl-host"));
    let finished = project
        .program(args)
        .run()
        .unwrap()
        .require_code(0)
        .unwrap();
    golden.assert_eq(&finished.stdout);
}

#[test]
fn help_is_as_documented() {
    check(&["--help"], &expect_file!["golden/help.txt"]);
    check(&["run", "--help"], &expect_file!["golden/help-run.txt"]);
    check(
        &["preview", "--help"],
        &expect_file!["golden/help-preview.txt"],
    );
    check(
        &["schema", "--help"],
        &expect_file!["golden/help-schema.txt"],
    );
    check(
        &["verify", "--help"],
        &expect_file!["golden/help-verify.txt"],
    );
    check(
        &["backfill", "--help"],
        &expect_file!["golden/help-backfill.txt"],
    );
    check(
        &["schedule", "--help"],
        &expect_file!["golden/help-schedule.txt"],
    );
    check(
        &["generate", "--help"],
        &expect_file!["golden/help-generate.txt"],
    );
    check(
        &["install", "--help"],
        &expect_file!["golden/help-install.txt"],
    );
    check(
        &["checkpoint", "set", "--help"],
        &expect_file!["golden/help-checkpoint-set.txt"],
    );
}

#[test]
fn completions_name_every_command() {
    let project = Project::new(env!("CARGO_BIN_EXE_etl-host"));
    for shell in ["bash", "zsh", "fish"] {
        let finished = project
            .program(&["completions", shell])
            .run()
            .unwrap()
            .require_code(0)
            .unwrap();
        for command in [
            "list",
            "info",
            "run",
            "preview",
            "schema",
            "validate",
            "doctor",
            "verify",
            "backfill",
            "schedule",
            "checkpoint",
            "generate",
            "install",
        ] {
            assert!(finished.stdout.contains(command), "{shell}: {command}");
        }
    }
}
