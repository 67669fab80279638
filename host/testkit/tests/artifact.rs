//! Artifacts are built by a cargo that runs inside of a test that cargo runs: no deadlock, no second target
//! directory.

use std::path::Path;

use etl_testkit::artifact;

#[test]
fn a_program_of_this_workspace_is_built_where_the_tests_are() {
    let program = artifact::binary("etl-testkit", "etl-testkit").unwrap();
    assert_eq!(program, Path::new(env!("CARGO_BIN_EXE_etl-testkit")));
    assert_eq!(
        artifact::binary("etl-testkit", "etl-testkit").unwrap(),
        program
    );
}

#[test]
fn a_plugin_is_a_shared_library() {
    let plugin = artifact::plugin("login-analytics").unwrap();
    let bytes = std::fs::read(&plugin).unwrap();
    assert!(bytes.starts_with(b"\x7fELF"), "{}", plugin.display());
    assert_eq!(plugin.extension().unwrap(), "so");
}

#[test]
fn a_crate_that_makes_no_such_thing_is_an_error_that_says_so() {
    let message = artifact::plugin("etl-testkit").unwrap_err().to_string();
    assert!(message.contains("cdylib"), "{message}");
    let message = artifact::plugin("no-such-plugin").unwrap_err().to_string();
    assert!(message.contains("no-such-plugin"), "{message}");
}
