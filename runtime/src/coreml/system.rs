//! What system the device needs: states are younger than Core ML.

use crate::error::RuntimeError;

/// Whether version `major` of `system` (`macos`, `ios`, …, as `std::env::consts::OS` has it) has states and functions (`MLState`,
/// `MLModelConfiguration.functionName`). Asking an older one for them would end the process.
pub fn check(system: &str, major: isize) -> Result<(), RuntimeError> {
    let (name, needed) = match system {
        "macos" => ("macOS", 15),
        "ios" => ("iOS", 18),
        "tvos" => ("tvOS", 18),
        "watchos" => ("watchOS", 11),
        "visionos" => ("visionOS", 2),
        other => (other, 0),
    };
    if major >= needed {
        return Ok(());
    }
    Err(RuntimeError::Device {
        device: "coreml".to_owned(),
        reason: format!(
            "this is {name} {major}, and Core ML has states from {name} {needed} on; update the system, or use the device `portable`"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_without_states_are_refused_with_what_they_need() {
        for (system, major, fits) in [
            ("macos", 14, false),
            ("macos", 15, true),
            ("macos", 27, true),
            ("ios", 17, false),
            ("ios", 18, true),
        ] {
            assert_eq!(check(system, major).is_ok(), fits, "{system} {major}");
        }
        let error = check("macos", 14).unwrap_err().to_string();
        assert_eq!(
            error,
            "opening the device `coreml`: this is macOS 14, and Core ML has states from macOS 15 on; update the system, or use the \
             device `portable`"
        );
    }
}
