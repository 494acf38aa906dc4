//! A Python worker and nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    anepipe_pipeline::python::worker_main()
}
