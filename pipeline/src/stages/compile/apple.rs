//! Apple's compiler: the programs it consists of, and what they are asked.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::error::{CompilerError, XCODE};
use super::fingerprint::{self, Fingerprint};

/// Its name in keys.
pub(super) const NAME: &str = "coremlcompiler";

/// Characters of what a program printed that an error repeats.
const SHOWN: usize = 2000;

/// The programs, by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    /// Runs the programs of Xcode.
    pub xcrun: PathBuf,
    /// Knows the system's version.
    pub sw_vers: PathBuf,
    /// Knows the machine.
    pub sysctl: PathBuf,
}

impl Default for Tools {
    /// Where every Mac has them.
    fn default() -> Self {
        Self {
            xcrun: "/usr/bin/xcrun".into(),
            sw_vers: "/usr/bin/sw_vers".into(),
            sysctl: "/usr/sbin/sysctl".into(),
        }
    }
}

/// Apple's compiler on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppleCompiler {
    tools: Tools,
    fingerprint: Fingerprint,
}

impl AppleCompiler {
    /// The compiler of the Xcode that is chosen on this Mac.
    pub fn open() -> Result<Self, CompilerError> {
        if cfg!(target_os = "macos") {
            Self::with_tools(Tools::default())
        } else {
            Err(CompilerError::System { system: std::env::consts::OS })
        }
    }

    /// The compiler that these programs are.
    pub fn with_tools(tools: Tools) -> Result<Self, CompilerError> {
        let fingerprint = Fingerprint {
            os_build: ask(&tools.sw_vers, &["-buildVersion"], "the system's build", fingerprint::os_build)?,
            chip: ask(&tools.sysctl, &["-n", "machdep.cpu.brand_string"], "the chip", fingerprint::chip)?,
            coremlcompiler: ask(
                &tools.xcrun,
                &["coremlcompiler", "version"],
                "the compiler's version",
                fingerprint::compiler_version,
            )?,
        };
        Ok(Self { tools, fingerprint })
    }

    /// What its results depend on besides the package.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Compiles `package` to the folder `out`, which is not there yet.
    pub fn run(&self, package: &Path, out: &Path) -> Result<(), CompilerError> {
        let doing = || format!("compiling {} with Apple's compiler", package.display());
        // It takes a folder and names what it puts there after the package.
        let folder = out.with_extension("coremlcompiler");
        fs_err::create_dir_all(&folder)?;
        let mut command = Command::new(&self.tools.xcrun);
        command.args(["coremlcompiler", "compile"]).arg(package).arg(&folder);
        let next = "see whether the package itself is at fault with `anepipe inspect`, or compile with --compiler portable";
        finish(&mut command, &self.tools.xcrun, doing, next)?;
        let expected = folder.join(package.file_name().unwrap_or_default()).with_extension("mlmodelc");
        if !expected.is_dir() {
            return Err(CompilerError::Nothing { package: package.to_owned(), expected });
        }
        fs_err::rename(&expected, out)?;
        fs_err::remove_dir_all(&folder)?;
        Ok(())
    }
}

/// Asks a program for one thing.
fn ask(
    program: &Path,
    arguments: &[&str],
    what: &'static str,
    read: impl Fn(&str) -> Option<String>,
) -> Result<String, CompilerError> {
    let mut command = Command::new(program);
    command.args(arguments);
    let output = finish(&mut command, program, || format!("asking for {what}"), XCODE)?;
    let answer = String::from_utf8_lossy(&output.stdout);
    read(&answer).ok_or_else(|| {
        let answer = answer.trim().chars().take(SHOWN).collect();
        CompilerError::Answer { what, program: program.to_owned(), answer }
    })
}

/// Runs a program to its end.
fn finish(
    command: &mut Command,
    program: &Path,
    doing: impl Fn() -> String,
    next: &'static str,
) -> Result<Output, CompilerError> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|source| CompilerError::Start {
        doing: doing(),
        program: program.to_owned(),
        source,
    })?;
    if output.status.success() {
        return Ok(output);
    }
    // The end says why.
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned());
    let said = said.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n");
    let skipped = said.chars().count().saturating_sub(SHOWN);
    let said = said.chars().skip(skipped).collect();
    Err(CompilerError::Failed {
        doing: doing(),
        program: program.to_owned(),
        status: output.status,
        said,
        next,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scripts in the place of Apple's programs.
    struct Scripts {
        folder: tempfile::TempDir,
    }

    /// An Xcode whose compiler does `compile` with the package `$1` and the folder `$2`.
    fn xcrun(compile: &str) -> String {
        format!(
            "test \"$1\" = coremlcompiler || exit 64\nshift\ncase $1 in\nversion) echo 3405.2.1 ;;\ncompile) shift; {compile} ;;\n\
             *) exit 64 ;;\nesac"
        )
    }

    const SW_VERS: &str = "test \"$*\" = -buildVersion && echo 24G419";
    const SYSCTL: &str = "test \"$*\" = '-n machdep.cpu.brand_string' && echo 'Apple M4 Max'";

    impl Scripts {
        fn new(xcrun: &str, sw_vers: &str, sysctl: &str) -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            for (name, script) in [("xcrun", xcrun), ("sw_vers", sw_vers), ("sysctl", sysctl)] {
                let path = folder.path().join(name);
                fs_err::write(path.with_extension("sh"), script).expect("a script");
                let program = concat!(env!("CARGO_MANIFEST_DIR"), "/src/stages/compile/script.sh");
                fs_err::os::unix::fs::symlink(program, path).expect("a link");
            }
            Self { folder }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn open(&self) -> Result<AppleCompiler, CompilerError> {
            let [xcrun, sw_vers, sysctl] = ["xcrun", "sw_vers", "sysctl"].map(|name| self.path(name));
            AppleCompiler::with_tools(Tools { xcrun, sw_vers, sysctl })
        }

        /// Compiles a package of one file.
        fn compile(&self) -> Result<PathBuf, CompilerError> {
            let (package, out) = (self.path("shard.mlpackage"), self.path("out.mlmodelc"));
            fs_err::create_dir_all(&package).expect("a package");
            fs_err::write(package.join("file"), "content").expect("a file");
            self.open().expect("a compiler").run(&package, &out)?;
            Ok(out)
        }
    }

    const COMPILES: &str = "mkdir \"$2/shard.mlmodelc\" && cp \"$1/file\" \"$2/shard.mlmodelc/\"";

    #[test]
    fn the_fingerprint_is_what_the_programs_say() {
        let compiler = Scripts::new(&xcrun("exit 1"), SW_VERS, SYSCTL).open().expect("a compiler");
        let expected = [("chip", "Apple M4 Max"), ("coremlcompiler", "3405.2.1"), ("os_build", "24G419")];
        assert_eq!(compiler.fingerprint().entries(), expected);
        let environment = super::super::Compiler::Apple(compiler).environment();
        let entries: Vec<_> =
            environment.iter().map(|(name, value)| (name.as_str(), value.as_str().expect("text"))).collect();
        assert_eq!(entries, expected);
    }

    #[test]
    fn a_package_becomes_the_folder_that_was_asked_for_and_nothing_else_stays() {
        let scripts = Scripts::new(&xcrun(COMPILES), SW_VERS, SYSCTL);
        let out = scripts.compile().expect("compiled");
        assert_eq!(fs_err::read_to_string(out.join("file")).expect("a file"), "content");
        let mut names: Vec<_> = fs_err::read_dir(scripts.folder.path())
            .expect("the folder")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
            .filter(|name| Path::new(name).extension().is_none_or(|extension| extension != "sh"))
            .collect();
        names.sort();
        assert_eq!(names, ["out.mlmodelc", "shard.mlpackage", "sw_vers", "sysctl", "xcrun"]);
    }

    /// Each row: what Apple's programs do, and what the error says.
    #[test]
    fn whatever_the_programs_do_wrong_is_said_with_what_to_do() {
        let good = xcrun(COMPILES);
        let no_compiler = "echo 'xcrun: error: unable to find utility \"coremlcompiler\", not a developer tool or in PATH' >&2; exit 72";
        for (xcrun, sw_vers, sysctl, expected) in [
            (
                no_compiler,
                SW_VERS,
                SYSCTL,
                ["asking for the compiler's version", "unable to find utility", "install Xcode"],
            ),
            (
                &good,
                "echo 15.7",
                SYSCTL,
                ["asking", "for the system's build: it says \"15.7\"", "--compiler portable"],
            ),
            (&good, SW_VERS, "true", ["asking", "for the chip: it says \"\"", "--compiler portable"]),
        ] {
            let error = Scripts::new(xcrun, sw_vers, sysctl).open().expect_err("refused").to_string();
            assert!(expected.iter().all(|part| error.contains(part)), "{error}");
        }
        let fails = xcrun("echo 'coremlc: error: Unknown opset CoreML9' >&2; exit 1");
        for (xcrun, expected) in [
            (
                fails,
                ["compiling ", "shard.mlpackage with Apple's compiler", "Unknown opset CoreML9; see whether"],
            ),
            (
                xcrun("true"),
                ["compiling ", "it gave no ", "shard.mlmodelc; compile with --compiler portable"],
            ),
        ] {
            let error = Scripts::new(&xcrun, SW_VERS, SYSCTL).compile().expect_err("refused").to_string();
            assert!(expected.iter().all(|part| error.contains(part)), "{error}");
        }
        let scripts = Scripts::new(&good, SW_VERS, SYSCTL);
        fs_err::remove_file(scripts.path("xcrun")).expect("removed");
        let error = scripts.open().expect_err("refused").to_string();
        assert!(error.contains("starting") && error.contains("install Xcode"), "{error}");
    }
}
