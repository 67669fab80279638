//! The pipeline without a host: its own rows come out. `etl-host run` is not needed for it, nor is a database.

use etl_plugin_api::prelude::*;
use etl_plugin_api::testkit::TestRun;

use {{crate_name}}::{{type_name}};

// A test of each thing that the host relies on: that a run goes on where the last one ended, that it can be stopped and
// so on.
etl_plugin_api::conformance! {
    {{type_name}},
}

#[test]
fn all_pages_are_read() {
    let pipeline = {{type_name}};
    let ran = TestRun::new(pipeline).run().unwrap();
    assert_eq!(ran.extracted, 2_500);
    assert_eq!(ran.counters["pages"], 3);
}

#[test]
fn a_run_goes_on_behind_the_last_one() {
    let pipeline = {{type_name}};
    let ran = TestRun::new(pipeline)
        .from(Cursor::Integer(2_498))
        .run()
        .unwrap();
    assert_eq!(
        ran.to_string(),
        "\
(the configured table): 2 rows
  id    user    action
  2499  user-0  login
  2500  user-1  NULL
counted: pages 1
"
    );
    let end = Resume::After(Cursor::Integer(2_500));
    assert_eq!(ran.resume, Some(end));
}
