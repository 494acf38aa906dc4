//! Operator sets: the protobuf's names (`CoreML8`) and those of MIL text (`ios18`).

/// Pairs of protobuf name and text tag. The first four are seen in Apple's programs; `ios26` is not.
const OPSETS: [(&str, &str); 5] = [
    ("CoreML5", "ios15"),
    ("CoreML6", "ios16"),
    ("CoreML7", "ios17"),
    ("CoreML8", "ios18"),
    ("CoreML9", "ios26"),
];

/// The tag in MIL text of the operator set the protobuf calls `name`.
pub fn tag_of(name: &str) -> Option<&'static str> {
    OPSETS.iter().find(|row| row.0 == name).map(|row| row.1)
}

/// The protobuf's name of the operator set that MIL text calls `tag`.
pub fn name_of(tag: &str) -> Option<&'static str> {
    OPSETS.iter().find(|row| row.1 == tag).map(|row| row.0)
}
