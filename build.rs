//! Lets the program find the Python library that `anepipe-pipeline` was built with, wherever it is installed.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Ok(folder) = env::var("DEP_ANEPIPE_PYTHON_RPATH")
        && !folder.is_empty()
    {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{folder}");
    }
}
