//! Which results share memory: a result's buffer is free again after its last use.

use std::collections::HashMap;

/// The life of one result.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    /// Elements.
    pub(super) length: usize,
    /// The step that writes it first.
    pub(super) born: usize,
    /// The last step that uses it.
    pub(super) dies: usize,
}

/// Buffers with as many elements as the longest result each holds, and the buffer of each result.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub(super) buffers: Vec<usize>,
    pub(super) assigned: Vec<usize>,
}

/// Gives each result a buffer, so that no two share one while both are needed. Results are in order of birth.
pub(super) fn assign(lives: &[Life]) -> Layout {
    let mut layout = Layout::default();
    let mut taken: HashMap<usize, usize> = HashMap::new();
    for life in lives {
        // A result that dies in the step that writes this one is still read there.
        taken.retain(|_, dies| *dies >= life.born);
        let free = (0..layout.buffers.len()).filter(|buffer| !taken.contains_key(buffer));
        // The best fit is the smallest that is large enough, else the largest, which grows.
        let best = free.min_by_key(|&buffer| match layout.buffers[buffer] {
            length if length >= life.length => (false, length),
            length => (true, usize::MAX - length),
        });
        let buffer = best.unwrap_or_else(|| {
            layout.buffers.push(0);
            layout.buffers.len() - 1
        });
        layout.buffers[buffer] = layout.buffers[buffer].max(life.length);
        taken.insert(buffer, life.dies);
        layout.assigned.push(buffer);
    }
    layout
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_chain_of_results_needs_two_buffers() {
        let lives: Vec<Life> = (0..10).map(|step| Life { length: 8, born: step, dies: step + 1 }).collect();
        assert_eq!(assign(&lives).buffers, [8, 8]);
    }

    proptest! {
        #[test]
        fn no_two_results_share_a_buffer_while_both_live(
            lives in prop::collection::vec((0usize..100, 0usize..20, 0usize..20), 0..60),
        ) {
            let mut lives: Vec<Life> = lives
                .into_iter()
                .map(|(length, born, more)| Life { length, born, dies: born + more })
                .collect();
            lives.sort_by_key(|life| life.born);
            let layout = assign(&lives);
            for (i, a) in lives.iter().enumerate() {
                prop_assert!(layout.buffers[layout.assigned[i]] >= a.length);
                for (j, b) in lives.iter().enumerate().take(i) {
                    let apart = a.dies < b.born || b.dies < a.born;
                    prop_assert!(apart || layout.assigned[i] != layout.assigned[j]);
                }
            }
        }
    }
}
