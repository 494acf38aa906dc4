//! What Core ML says when it refuses, and what to do about it.
//!
//! Core ML reports most failures as error 0 of its domain and says what happened in words. [`Kind`] goes by the words that
//! others have reported; whatever it does not know it hands on as it is.

use super::strides::LayoutError;

/// One error (`NSError`) as Core ML reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Who reports it, such as `com.apple.CoreML`.
    pub domain: String,
    /// Its number there.
    pub code: isize,
    /// What it says.
    pub description: String,
}

/// Why Core ML could not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It said so itself: an error, and those beneath it.
    #[error("{}; {}", told(causes), kind(causes).next_step())]
    Reported {
        /// Outermost first; at least one.
        causes: Vec<Cause>,
    },
    /// A multi array that is not what the program says.
    #[error("`{name}`: {source}; the compiled model and its program differ, build the bundle again")]
    Layout {
        /// The input, output or state.
        name: String,
        /// What is wrong with it.
        source: LayoutError,
    },
    /// A multi array of another element type.
    #[error(
        "`{name}` has elements of type {found:#x}, not fp16; the compiled model and its program differ, build the bundle again"
    )]
    ElementType {
        /// The input, output or state.
        name: String,
        /// The `MLMultiArrayDataType`.
        found: isize,
    },
    /// Something that the program has and Core ML did not give.
    #[error(
        "Core ML gave no {what} `{name}`; the compiled model and its program differ, build the bundle again"
    )]
    Missing {
        /// `output` or `state`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A path that no URL can be made of.
    #[error("no URL can be made of the path {path}; move the bundle to a folder with a plain name")]
    Path {
        /// The path.
        path: String,
    },
    /// Arrays that are larger than the address space.
    #[error("an array of shape {shape:?} is larger than any memory; build the bundle again")]
    TooLarge {
        /// Its extents.
        shape: Vec<usize>,
    },
}

/// What a reported failure comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The Neural Engine's compiler could not place the program: error −14.
    Plan,
    /// Not enough memory.
    Memory,
    /// The program is of an opset or format that this system does not know.
    TooNew,
    /// Something of the model cannot be read.
    Unreadable,
    /// A tensor of the wrong kind went in.
    Feature,
    /// The program has no such function.
    Function,
    /// Something else.
    Other,
}

/// What a kind of failure is told by: every word of one of these must be in one of the descriptions. The first that fits counts.
const SIGNS: [(Kind, &[&str]); 13] = [
    (Kind::Plan, &["error code: -14"]),
    (Kind::TooNew, &["unknown opset"]),
    (Kind::TooNew, &["opset", "not supported"]),
    (Kind::TooNew, &["unsupported", "version"]),
    (Kind::TooNew, &["intended for a newer version"]),
    (Kind::Memory, &["out of memory"]),
    (Kind::Memory, &["not enough memory"]),
    (Kind::Memory, &["failed to allocate"]),
    (Kind::Memory, &["insufficient memory"]),
    (Kind::Function, &["function", "not found"]),
    (Kind::Function, &["function", "does not exist"]),
    (Kind::Unreadable, &["no such file"]),
    (Kind::Plan, &["execution plan"]),
];

/// Codes of `com.apple.CoreML` (`MLModelError`) that say more than "something went wrong".
const CODES: [(isize, Kind); 2] = [(1, Kind::Feature), (3, Kind::Unreadable)];

/// What `causes` come to.
pub fn kind(causes: &[Cause]) -> Kind {
    let words = |description: &str, signs: &[&str]| signs.iter().all(|sign| description.contains(sign));
    let descriptions: Vec<String> = causes.iter().map(|cause| cause.description.to_lowercase()).collect();
    let said = SIGNS.iter().find(|(_, signs)| descriptions.iter().any(|text| words(text, signs)));
    let coded = || {
        let core_ml = causes.iter().filter(|cause| cause.domain == "com.apple.CoreML");
        core_ml
            .filter_map(|cause| CODES.iter().find(|(code, _)| *code == cause.code))
            .map(|&(_, kind)| kind)
            .next()
    };
    said.map(|&(kind, _)| kind).or_else(coded).unwrap_or(Kind::Other)
}

impl Kind {
    /// What to do.
    pub fn next_step(self) -> &'static str {
        match self {
            Self::Plan => {
                "the Neural Engine's compiler could not place the program, as it does with too many operations or too many bytes: \
                 build smaller shards with --topology, and see what `anepipe gate residency` says of them"
            }
            Self::Memory => {
                "the memory does not suffice: close other programs, or build smaller shards with --topology, a smaller --context or \
                 fewer --widths"
            }
            Self::TooNew => {
                "the program needs macOS 15 or later, and a compiled model the system that it was compiled for: update the system, or \
                 compile again on this one"
            }
            Self::Unreadable => "the compiled model is damaged or gone: build the bundle again",
            Self::Feature => {
                "a tensor does not fit the compiled model, which was made from another program: build the bundle again"
            }
            Self::Function => "the compiled model lacks the function: build the bundle again",
            Self::Other => {
                "look for the program's name in the system's log (`log show --last 5m --predicate 'subsystem == \"com.apple.coreml\"'`), \
                 and compare with the device `portable`"
            }
        }
    }
}

/// All causes in one line, what two of them say alike once.
fn told(causes: &[Cause]) -> String {
    let mut told: Vec<(&str, String)> = Vec::new();
    for Cause { domain, code, description } in causes {
        let description = description.trim_end_matches('.');
        if told.iter().all(|(before, _)| *before != description) {
            told.push((description, format!("{description} ({domain} {code})")));
        }
    }
    told.into_iter().map(|(_, told)| told).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(domain: &str, code: isize, description: &str) -> Cause {
        Cause { domain: domain.to_owned(), code, description: description.to_owned() }
    }

    /// Each row: what Core ML reports, and what it comes to. The texts are of the kind that users of Core ML have reported.
    #[test]
    fn reports_are_told_apart_by_their_words_and_then_by_their_codes() {
        let plan = "Failed to build the model execution plan using a model architecture file '/b/m.mlmodelc/model.mil' with error code";
        let table = [
            (0, format!("{plan}: -14."), Kind::Plan),
            (0, format!("{plan}: -5."), Kind::Plan),
            (
                0,
                "Unable to parse ML Program: at unknown location: Unknown opset 'CoreML8'.".into(),
                Kind::TooNew,
            ),
            (0, "Unsupported model version: 10".into(), Kind::TooNew),
            (
                0,
                "The .mlmodel supplied is of version 9, intended for a newer version of Xcode.".into(),
                Kind::TooNew,
            ),
            (0, "Failed to allocate 3221225472 bytes".into(), Kind::Memory),
            (0, "Compiler ran out of memory".into(), Kind::Memory),
            (0, "Function 't8' not found in the model.".into(), Kind::Function),
            (1, "For input feature 'hidden', the provided shape is not compatible.".into(), Kind::Feature),
            (3, "Error in reading the MIL network.".into(), Kind::Unreadable),
            (0, "Something happened.".into(), Kind::Other),
            (7, "Something happened.".into(), Kind::Other),
        ];
        for (code, description, expected) in table {
            assert_eq!(kind(&[cause("com.apple.CoreML", code, &description)]), expected, "{description}");
            let beneath = [
                cause("NSCocoaErrorDomain", 3, "Loading failed."),
                cause("com.apple.CoreML", code, &description),
            ];
            assert_eq!(kind(&beneath), expected, "beneath: {description}");
        }
        assert_eq!(kind(&[cause("NSPOSIXErrorDomain", 3, "Something happened.")]), Kind::Other);
        assert_eq!(kind(&[]), Kind::Other);
    }

    #[test]
    fn a_message_has_each_cause_once_with_its_domain_and_code_and_ends_with_what_to_do() {
        let causes = vec![
            cause("com.apple.CoreML", 0, "Loading failed."),
            cause("com.apple.CoreML", 0, "The plan could not be built with error code: -14."),
            cause("com.apple.appleneuralengine", 7, "The plan could not be built with error code: -14."),
            cause("com.apple.appleneuralengine", 8, "ANECCompile() FAILED"),
        ];
        let failure = Failure::Reported { causes }.to_string();
        assert_eq!(
            failure,
            "Loading failed (com.apple.CoreML 0): The plan could not be built with error code: -14 (com.apple.CoreML 0): \
             ANECCompile() FAILED (com.apple.appleneuralengine 8); the Neural Engine's compiler could not place the program, as it \
             does with too many operations or too many bytes: build smaller shards with --topology, and see what \
             `anepipe gate residency` says of them"
        );
    }
}
