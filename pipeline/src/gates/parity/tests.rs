#[test]
fn explore() {
    use super::reference::{Bug, Reference, rope};
    use super::*;
    let tokens: Vec<Vec<f16>> = {
        let mut n = input::Noise::new("embeddings");
        (0..4).map(|_| (0..64).map(|_| f16::from_f32((n.normal() * 0.03) as f32)).collect()).collect()
    };
    let tokens: Vec<&[f16]> = tokens.iter().map(Vec::as_slice).collect();
    let rope = rope();
    for bug in [
        Bug::None,
        Bug::NoPermute,
        Bug::MaskIgnored,
        Bug::MaskWeak,
        Bug::SlotAccumulator,
        Bug::CacheNotCleared,
        Bug::RopeOfFirstSlot,
        Bug::NormAcrossSlots,
        Bug::NanInLastSlot,
        Bug::OtherWeights,
    ] {
        for device in ["portable", "coreml"] {
            let shard = Reference::layers(1, 4, bug);
            let narrow = Reference::layers(1, 1, if bug == Bug::OtherWeights { Bug::None } else { bug });
            let s = Subject {
                name: "layers 0..1",
                device,
                shard: &shard,
                narrow: Some(&narrow),
                rope: Some(&rope),
            };
            let report = check(&s, &tokens, &ParityThresholds::default()).unwrap();
            println!("==== {bug:?}\n{report}\n{}\n", report.summary());
        }
    }
}
