//! `.mlpackage` → `.mlmodelc`, by the portable compiler or by Apple's.
//!
//! What the portable compiler gives depends on the package alone. What Apple's gives may depend on the machine and on Xcode, so
//! everything that is compiled with it has them in its key: [`Fingerprint`]. It runs as a program, `xcrun coremlcompiler`; on systems
//! that have none, [`Compiler::open`] says so before anything is built. It has not been run for these pages: its tests run
//! scripts in its place.

mod apple;
mod error;
mod fingerprint;
mod portable;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde_json::{Map, Value};

pub use self::apple::{AppleCompiler, Tools};
pub use self::error::CompilerError;
pub use self::fingerprint::Fingerprint;
pub use self::portable::run;
use crate::error::StageError;

/// The compilers there are, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompilerKind {
    /// `anepipe-mil`, on any system.
    Portable,
    /// Xcode's, on a Mac.
    Apple,
}

impl CompilerKind {
    /// Every compiler, whether or not it is to be had here.
    pub const ALL: [Self; 2] = [Self::Portable, Self::Apple];

    /// The one to use if nothing else is said: Apple's where there is one, because the portable compiler's text of programs with
    /// states was never held to a public example.
    pub fn of_this_system() -> Self {
        if cfg!(target_os = "macos") { Self::Apple } else { Self::Portable }
    }

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Apple => "apple",
        }
    }
}

impl fmt::Display for CompilerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for CompilerKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| format!("`{name}` is no compiler; there are portable and apple"))
    }
}

/// A compiler that can be used here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Compiler {
    /// `anepipe-mil`.
    #[default]
    Portable,
    /// Xcode's.
    Apple(AppleCompiler),
}

impl Compiler {
    /// The compiler of that name, if this system has it.
    pub fn open(kind: CompilerKind) -> Result<Self, CompilerError> {
        match kind {
            CompilerKind::Portable => Ok(Self::Portable),
            CompilerKind::Apple => Ok(Self::Apple(AppleCompiler::open()?)),
        }
    }

    /// Its name in keys.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Portable => portable::NAME,
            Self::Apple(_) => apple::NAME,
        }
    }

    /// What its results depend on besides the package, for keys; nothing for the portable one.
    pub fn environment(&self) -> Map<String, Value> {
        match self {
            Self::Portable => Map::new(),
            Self::Apple(apple) => apple
                .fingerprint()
                .entries()
                .map(|(name, value)| (name.to_owned(), Value::from(value)))
                .into_iter()
                .collect(),
        }
    }

    /// Compiles the package `package`, a stored one, to the folder `out`, which is not there yet.
    pub fn run(&self, package: &Path, out: &Path) -> Result<(), StageError> {
        match self {
            Self::Portable => Ok(portable::run(package, out)?),
            Self::Apple(apple) => Ok(apple.run(package, out)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_compilers_are_one_to_one() {
        for kind in CompilerKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        let error = "xcode".parse::<CompilerKind>().expect_err("no compiler");
        assert_eq!(error, "`xcode` is no compiler; there are portable and apple");
    }

    /// Stored artifacts of earlier versions are found by these.
    #[test]
    fn the_portable_compiler_depends_on_nothing() {
        let compiler = Compiler::open(CompilerKind::Portable).expect("everywhere");
        assert_eq!((compiler.name(), compiler.environment()), ("anepipe-mil", Map::new()));
        assert_eq!(compiler, Compiler::default());
    }

    #[cfg(not(target_os = "macos"))]
    #[test]
    fn away_from_macs_apples_compiler_is_refused_with_what_to_do() {
        let error = Compiler::open(CompilerKind::Apple).expect_err("refused").to_string();
        assert!(error.contains("runs on macOS only") && error.contains("--compiler portable"), "{error}");
        assert_eq!(CompilerKind::of_this_system(), CompilerKind::Portable);
    }
}
