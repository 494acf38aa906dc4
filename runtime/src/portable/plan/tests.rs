use std::sync::Arc;

use anepipe_mil::modelc::ModelC;

use super::step::Kernel;
use super::*;
use crate::portable::fixture::layer::{PHI_4_MINI, Shard, Weights};
use crate::portable::graph::lower;

/// What a plan consists of.
#[derive(Debug, PartialEq, Eq)]
struct Census {
    matrices: usize,
    /// Heads of each attention.
    attentions: Vec<usize>,
    /// Of each norm, whether it adds first.
    norms: Vec<bool>,
    scatters: usize,
    scans: usize,
    /// Steps that move or multiply something as large as a cache.
    large: usize,
}

fn census(shard: Shard) -> Census {
    let directory = tempfile::tempdir().unwrap();
    shard.save(directory.path(), 1);
    let graph = lower(&Arc::new(ModelC::open(directory.path()).unwrap()), None).unwrap();
    let plan = Plan::new(&graph, false).unwrap();
    let cache = shard.kv_heads * shard.context * shard.head_dim;
    let mut census =
        Census { matrices: 0, attentions: Vec::new(), norms: Vec::new(), scatters: 0, scans: 0, large: 0 };
    for step in &plan.steps {
        match step {
            Step::Compute { kernel: Kernel::Int8Matrix { .. } | Kernel::HalfMatrix { .. }, .. } => {
                census.matrices += 1;
            }
            Step::Compute { kernel: Kernel::Attention(attention), .. } => {
                census.attentions.push(attention.heads.len());
            }
            Step::Compute { kernel: Kernel::Matmul { .. }, .. } | Step::WriteState { .. } => {
                census.large += 1;
            }
            Step::Compute { length, .. } => census.large += usize::from(*length >= cache),
            Step::Norm(norm) => {
                census.norms.push(norm.addend.is_some());
                census.large += usize::from(norm.length >= cache);
            }
            Step::Scatter { .. } => census.scatters += 1,
            Step::ScanChanges { .. } | Step::ScanMask { .. } => census.scans += 1,
        }
    }
    census
}

#[test]
fn a_layer_is_four_matrices_two_scatters_two_norms_and_one_attention() {
    let small = Shard {
        hidden: 32,
        heads: 6,
        kv_heads: 3,
        head_dim: 8,
        ffn: 64,
        rope: 6,
        context: 512,
        layers: 3,
        ..PHI_4_MINI
    };
    for (weights, scale_scores) in [(Weights::PerRow, false), (Weights::Affine, true), (Weights::Half, false)]
    {
        for width in [1, 4] {
            let found = census(Shard { width, weights, scale_scores, ..small });
            let expected = Census {
                matrices: 12,
                attentions: vec![3, 3, 3],
                norms: vec![false, true, true, true, true, true],
                scatters: 6,
                scans: 2,
                large: 0,
            };
            assert_eq!(found, expected, "{weights:?} T={width}");
        }
    }
    let one_head = census(Shard { heads: 2, kv_heads: 1, layers: 1, ..small });
    let expected = Census {
        matrices: 4,
        attentions: vec![1],
        norms: vec![false, true],
        scatters: 2,
        scans: 2,
        large: 0,
    };
    assert_eq!(one_head, expected);
}

/// A shard whose passes take no time.
pub(super) const SMALL: Shard =
    Shard { hidden: 32, heads: 4, kv_heads: 2, head_dim: 8, ffn: 64, rope: 6, context: 64, ..PHI_4_MINI };

/// Memory for results does not grow with the number of layers.
#[test]
fn layers_share_buffers() {
    let elements = |layers: usize| {
        let directory = tempfile::tempdir().unwrap();
        let shard = Shard { rope: 8, layers, ..SMALL };
        shard.save(directory.path(), 1);
        let graph = lower(&Arc::new(ModelC::open(directory.path()).unwrap()), None).unwrap();
        Plan::new(&graph, false).unwrap().buffer_elements()
    };
    // The first layers show how large buffers have to be.
    assert_eq!(elements(3), elements(9));
}

/// The names of the results that elementwise kernels write.
fn elementwise(watched: bool) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    SMALL.save(directory.path(), 1);
    let graph = lower(&Arc::new(ModelC::open(directory.path()).unwrap()), None).unwrap();
    let plan = Plan::new(&graph, watched).unwrap();
    let steps = plan.steps.iter().zip(&plan.names);
    steps.filter(|(step, _)| step.kind() == KernelKind::Elementwise).map(|(_, name)| name.clone()).collect()
}

#[test]
fn elementwise_operations_are_one_sweep_unless_somebody_watches() {
    let (fused, single) = (elementwise(false), elementwise(true));
    assert!(fused.len() < single.len(), "{fused:?} {single:?}");
    assert!(fused.iter().all(|name| single.contains(name)), "{fused:?} {single:?}");
}
