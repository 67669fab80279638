//! Programs under a deadline: what they wrote, how they ended, and that nothing waits for ever.

use std::time::Duration;

use etl_testkit::process::{Program, Signal};

fn sh(script: &str) -> Program {
    Program::new("sh").args(["-c", script])
}

#[test]
fn output_and_exit_code_are_kept() {
    let finished = sh("echo out; echo err >&2; exit 4").run().unwrap();
    assert_eq!(finished.code, Some(4));
    assert_eq!(finished.stdout, "out\n");
    assert_eq!(finished.stderr, "err\n");
    let message = finished.require_code(0).unwrap_err().to_string();
    assert!(message.contains("got 4"), "{message}");
    assert!(message.contains("err"), "{message}");
}

#[test]
fn more_output_than_a_pipe_holds_is_no_deadlock() {
    let finished = sh("head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2")
        .run()
        .unwrap();
    assert_eq!(
        (finished.stdout.len(), finished.stderr.len()),
        (1_000_000, 1_000_000)
    );
}

#[test]
fn a_line_is_waited_for_and_a_signal_ends_the_program() {
    let mut running = sh("echo 1 >&2; printf 'half\\rready\\n'; exec sleep 600")
        .start()
        .unwrap();
    let line = running
        .wait_for_stdout(|line| line.starts_with("re"))
        .unwrap();
    assert_eq!(line, "ready");
    assert_eq!(running.wait_for_stderr(|_| true).unwrap(), "1");
    running.signal(Signal::TERM).unwrap();
    let finished = running.finish().unwrap();
    assert_eq!((finished.code, finished.signal), (None, Some(15)));
}

#[test]
fn each_wait_goes_on_behind_the_last_line() {
    let mut running = sh("echo a 1; echo b; printf 'a 2'").start().unwrap();
    assert_eq!(
        running
            .wait_for_stdout(|line| line.starts_with('a'))
            .unwrap(),
        "a 1"
    );
    assert_eq!(
        running
            .wait_for_stdout(|line| line.starts_with('a'))
            .unwrap(),
        "a 2"
    );
    let message = running.wait_for_stdout(|_| true).unwrap_err().to_string();
    assert!(message.contains("without the awaited line"), "{message}");
}

#[test]
fn the_deadline_ends_a_program_that_does_not() {
    let short = Duration::from_millis(200);
    let message = sh("echo begun; exec sleep 600")
        .deadline(short)
        .run()
        .unwrap_err()
        .to_string();
    assert!(message.contains("before its deadline"), "{message}");
    assert!(message.contains("begun"), "{message}");

    let mut silent = sh("exec sleep 600").deadline(short).start().unwrap();
    let message = silent.wait_for_stdout(|_| true).unwrap_err().to_string();
    assert!(message.contains("before its deadline"), "{message}");
}

#[test]
fn a_dropped_program_is_killed() {
    let mut running = sh("echo $$; exec sleep 600").start().unwrap();
    let id = running.wait_for_stdout(|_| true).unwrap();
    drop(running);
    assert!(!std::path::Path::new("/proc").join(id).exists());
}

#[test]
fn a_descendant_that_keeps_the_output_open_is_named_as_the_reason() {
    let message = sh("sleep 2 & exit 0")
        .deadline(Duration::from_millis(300))
        .run()
        .unwrap_err()
        .to_string();
    assert!(message.contains("still holds its output open"), "{message}");
}

#[test]
fn a_signal_after_the_end_is_no_error() {
    let mut running = sh("exit 0").start().unwrap();
    running.wait_for_stdout(|_| true).unwrap_err();
    running.signal(Signal::KILL).unwrap();
    drop(running.finish().unwrap());
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let message = Program::new("/nowhere/etl")
        .start()
        .unwrap_err()
        .to_string();
    assert!(message.contains("/nowhere/etl"), "{message}");
}
