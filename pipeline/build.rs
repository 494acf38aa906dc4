//! Records the Python this crate embeds: where its shared library is, its home, its version, its environment.
//!
//! A link argument reaches only the targets of the package whose build script prints it. A package that links this crate
//! into a program finds the folder of the shared library under `DEP_ANEPIPE_PYTHON_RPATH` and must pass it on the same way.

use std::env;
use std::process::Command;

/// Prints, a line each: version, home, environment, and the folders the shared library may be in.
const QUESTIONS: &str = "
import platform, sys, sysconfig
print(platform.python_version())
print(sys.base_prefix)
print(sys.prefix)
print(sysconfig.get_config_var('PYTHONFRAMEWORKPREFIX') or sysconfig.get_config_var('LIBDIR') or '')
";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    match record() {
        Ok(()) => (),
        // A build script has no other way to explain itself.
        Err(reason) => {
            println!(
                "cargo::error={reason}; name a Python from 3.10 to 3.13 in PYO3_PYTHON (`make build` does both steps)"
            );
        }
    }
}

fn record() -> Result<(), String> {
    let config = pyo3_build_config::get();
    let version = config.version();
    if !((3, 10)..=(3, 13)).contains(&(version.major, version.minor)) {
        return Err(format!("coremltools 9.0 exists for Python 3.10 to 3.13; this is {version}"));
    }
    let program = match config.executable() {
        Some(program) => program.to_owned(),
        None => env::var("PYO3_PYTHON").map_err(|_| "no Python interpreter was found".to_owned())?,
    };
    let output = Command::new(&program)
        .args(["-I", "-c", QUESTIONS])
        .output()
        .map_err(|error| format!("running {program}: {error}"))?;
    let answers =
        String::from_utf8(output.stdout).map_err(|_| format!("{program} has a path that is not UTF-8"))?;
    let answers: Vec<&str> = answers.lines().collect();
    let [version, home, environment, library] = answers[..] else {
        return Err(format!("{program} failed: {}", String::from_utf8_lossy(&output.stderr)));
    };
    println!("cargo::rustc-env=ANEPIPE_PYTHON_VERSION={version}");
    println!("cargo::rustc-env=ANEPIPE_PYTHON_HOME={home}");
    println!("cargo::rustc-env=ANEPIPE_PYTHON_PREFIX={environment}");
    println!("cargo::metadata=rpath={library}");
    if !library.is_empty() {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{library}");
    }
    Ok(())
}
