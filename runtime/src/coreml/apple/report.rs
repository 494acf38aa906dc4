//! What an `NSError` says, as plain values.

use objc2_foundation::NSError;

use crate::coreml::failure::{Cause, Failure};

/// Errors beneath one another that are followed; no framework nests them like this.
const MOST: usize = 8;

/// The error and those beneath it.
pub(super) fn reported(error: &NSError) -> Failure {
    let mut causes = Vec::new();
    follow(error, &mut causes);
    Failure::Reported { causes }
}

fn follow(error: &NSError, causes: &mut Vec<Cause>) {
    if causes.len() == MOST {
        return;
    }
    causes.push(Cause {
        domain: error.domain().to_string(),
        code: error.code(),
        description: error.localizedDescription().to_string(),
    });
    for beneath in error.underlyingErrors() {
        follow(&beneath, causes);
    }
}
