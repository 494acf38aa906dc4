//! Which Python packages are used, and what is said when they will not do.
#![cfg(unix)]

mod python;

use std::path::{Path, PathBuf};

use anepipe_pipeline::python::{EnvironmentSource, Lookup, PythonEnvironment, PythonError, PythonVersion};
use tempfile::TempDir;

const GOOD: &[&str] = &["coremltools-9.0.dist-info", "numpy-2.2.6.dist-info", "protobuf-7.36.2.dist-info"];

/// A folder that looks like a virtual environment of this program's Python.
fn venv(parent: &Path, name: &str, packages: &[&str]) -> PathBuf {
    let built = PythonVersion::built();
    let root = parent.join(name);
    let site = root.join(format!("lib/python{}.{}/site-packages", built.major, built.minor));
    for package in packages {
        std::fs::create_dir_all(site.join(package)).unwrap();
    }
    std::fs::create_dir_all(&site).unwrap();
    std::fs::create_dir_all(root.join("bin")).unwrap();
    std::fs::write(root.join("bin/python"), "").unwrap();
    std::fs::write(root.join("pyvenv.cfg"), format!("home = /usr/bin\nversion = {built}\n")).unwrap();
    root
}

fn only(path: &Path) -> Lookup {
    Lookup { variable: Some(path.to_owned()), ..Lookup::default() }
}

#[test]
fn environments_are_looked_for_in_the_documented_order() {
    let folder = TempDir::new().unwrap();
    let make = |name: &str| venv(folder.path(), name, GOOD);
    let (variable, configured, activated) = (make("variable"), make("configured"), make("activated"));
    let (project, built) = (make("project/.venv"), make("built"));
    let mut lookup = Lookup {
        variable: Some(variable.join("bin/python")),
        configured: Some(configured.clone()),
        activated: Some(activated.clone()),
        nearby: vec![folder.path().join("empty"), folder.path().join("project")],
        built: Some(built.clone()),
    };
    let mut expect = |root: &Path, source, then: fn(&mut Lookup)| {
        let found = PythonEnvironment::resolve(&lookup).unwrap();
        assert_eq!((found.root(), found.source()), (root, source));
        then(&mut lookup);
    };
    expect(&variable, EnvironmentSource::Variable, |lookup| lookup.variable = None);
    expect(&configured, EnvironmentSource::Configuration, |lookup| lookup.configured = None);
    expect(&activated, EnvironmentSource::Activated, |lookup| lookup.activated = None);
    expect(&project, EnvironmentSource::Nearby, |lookup| lookup.nearby.clear());
    expect(&built, EnvironmentSource::Build, |lookup| lookup.built = None);
    let error = PythonEnvironment::resolve(&lookup).unwrap_err();
    assert!(matches!(error, PythonError::NoEnvironment { .. }), "{error:?}");
}

#[test]
fn an_environment_that_is_named_and_will_not_do_is_an_error_with_what_to_do() {
    let folder = TempDir::new().unwrap();
    let absent = folder.path().join("absent");
    let empty = venv(folder.path(), "empty", &[]);
    let old = venv(folder.path(), "old", &["coremltools-8.3.dist-info", "numpy-2.2.6.dist-info"]);
    let twice = venv(folder.path(), "twice", &[GOOD, &["coremltools-9.1.dist-info"]].concat());
    let no_numpy =
        venv(folder.path(), "no-numpy", &["coremltools-9.0.dist-info", "protobuf-7.36.2.dist-info"]);
    let other = venv(folder.path(), "other", GOOD);
    std::fs::write(other.join("pyvenv.cfg"), "version_info = 3.9.1.final.0\n").unwrap();
    let blank = venv(folder.path(), "blank", GOOD);
    std::fs::write(blank.join("pyvenv.cfg"), "home = /usr/bin\n").unwrap();
    let hollow = folder.path().join("hollow");
    std::fs::create_dir(&hollow).unwrap();
    for (root, parts) in [
        (&absent, &["named by ANEPIPE_PYTHON", "there is no such folder", "make setup"][..]),
        (
            &empty,
            &[
                "no coremltools",
                "needs coremltools 9.0",
                "empty/bin/python -m pip install --require-hashes -r",
            ],
        ),
        (&old, &["has coremltools 8.3", "needs coremltools 9.0"]),
        (&twice, &["coremltools 9.0 and 9.1"]),
        (&no_numpy, &["no numpy", "needs numpy:"]),
        (&other, &["is for Python 3.9.1", "embeds Python", "PYO3_PYTHON="]),
        (&blank, &["pyvenv.cfg does not tell the version of Python"]),
        (&hollow, &["site-packages does not exist"]),
    ] {
        let error = PythonEnvironment::resolve(&only(root)).unwrap_err();
        let text = error.to_string();
        for part in parts {
            assert!(text.contains(part), "{part:?} is not in: {text}");
        }
        assert!(text.contains(&root.display().to_string()), "{text}");
        assert_eq!(error.exit_code(), 30);
    }
}

#[test]
fn a_fingerprint_tells_everything_an_output_can_depend_on() {
    let folder = TempDir::new().unwrap();
    let environment = PythonEnvironment::resolve(&only(&venv(folder.path(), "venv", GOOD))).unwrap();
    let json = serde_json::to_value(environment.fingerprint()).unwrap();
    assert_eq!(json["python"], PythonVersion::running().to_string());
    assert_eq!(
        (&json["coremltools"], &json["numpy"], &json["protobuf"]),
        (&"9.0".into(), &"2.2.6".into(), &"7.36.2".into())
    );
    assert_eq!(json["sources"].as_str().unwrap().len(), 64);
    assert_eq!(json.as_object().unwrap().len(), 5);
    let again = PythonEnvironment::resolve(&only(&venv(folder.path(), "elsewhere", GOOD))).unwrap();
    assert_eq!(again.fingerprint(), environment.fingerprint(), "where it lies does not matter");
    let newer = ["coremltools-9.0.dist-info", "numpy-2.3.0.dist-info", "protobuf-7.36.2.dist-info"];
    let other = PythonEnvironment::resolve(&only(&venv(folder.path(), "newer", &newer))).unwrap();
    assert_ne!(other.fingerprint(), environment.fingerprint());
}

#[test]
fn a_configured_environment_is_relative_to_the_configuration() {
    let lookup = Lookup::of_process(Some(Path::new("env")), Some(Path::new("/project")));
    assert_eq!(lookup.configured.as_deref(), Some(Path::new("/project/env")));
    assert_eq!(lookup.nearby.first().map(PathBuf::as_path), Some(Path::new("/project")));
}
