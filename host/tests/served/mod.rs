//! A real daemon over a project, and curl to talk to it.
#![allow(dead_code, reason = "each test file uses its own part")]

use etl_testkit::process::{Finished, Program, Running};
use etl_testkit::project::Project;
use serde_json::Value;

/// A daemon that serves a project.
pub struct Served {
    pub project: Project,
    pub daemon: Running,
    pub address: String,
}

impl Served {
    pub fn start(project: Project) -> Self {
        project.write("etl-host.yaml", "http: { listen: \"127.0.0.1:0\" }\n");
        let arguments = ["serve", "--config", "etl-host.yaml"];
        let mut daemon = project.program(&arguments).start().unwrap();
        let line = daemon.wait_for_stderr(|line| line.contains("listening on http://"));
        let line = line.unwrap();
        let (_, address) = line.split_once("listening on ").unwrap();
        let address = address.split_whitespace().next().unwrap().to_owned();
        let served = Self {
            project,
            daemon,
            address,
        };
        while !served.curl("/readyz", &[]).success() {}
        served
    }

    fn program(&self, path: &str, arguments: &[&str]) -> Program {
        Program::new("curl")
            .args(["--silent", "--show-error"])
            .args(arguments)
            .arg(format!("{}{path}", self.address))
    }

    pub fn curl(&self, path: &str, arguments: &[&str]) -> Finished {
        let arguments = [&["--fail-with-body"], arguments].concat();
        self.program(path, &arguments).run().unwrap()
    }

    pub fn get(&self, path: &str) -> Value {
        let got = self.curl(path, &[]).require_code(0).unwrap();
        got.json().unwrap()
    }

    pub fn post(&self, path: &str) -> Value {
        let answer = self.curl(path, &["--request", "POST"]);
        answer.require_code(0).unwrap().json().unwrap()
    }

    /// Starts to ask for something; [`answer`] has what comes back.
    pub fn asking(&self, path: &str, body: &Value) -> Running {
        let body = body.to_string();
        let arguments = [
            "--header",
            "Content-Type: application/json",
            "--data",
            &body,
            "--write-out",
            "\n%{http_code}",
        ];
        self.program(path, &arguments).start().unwrap()
    }

    /// Asks for something, and gives the status with the answer.
    pub fn ask(&self, path: &str, body: &Value) -> (u16, Value) {
        answer(self.asking(path, body))
    }

    /// Follows a run to its end, and gives its details.
    pub fn end_of(&self, run_id: &str) -> Value {
        let path = format!("/api/v1/runs/{run_id}/progress");
        let told = self.curl(&path, &["--no-buffer"]).require_code(0).unwrap();
        assert!(told.stdout.contains("event: end"), "{}", told.stdout);
        self.get(&format!("/api/v1/runs/{run_id}"))
    }

    /// Runs a pipeline to its end.
    pub fn run(&self, pipeline: &str) -> Value {
        let accepted = self.post(&format!("/api/v1/pipelines/{pipeline}/runs"));
        let details = self.end_of(accepted["run_id"].as_str().unwrap());
        self.wait_until_idle(pipeline);
        details
    }

    pub fn wait_until_idle(&self, pipeline: &str) {
        let path = format!("/api/v1/pipelines/{pipeline}");
        while !self.get(&path)["current_run"].is_null() {}
    }
}

/// The status and the body of what was asked.
pub fn answer(asking: Running) -> (u16, Value) {
    let finished = asking.finish().unwrap().require_code(0).unwrap();
    let (body, status) = finished.stdout.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), serde_json::from_str(body).unwrap())
}
