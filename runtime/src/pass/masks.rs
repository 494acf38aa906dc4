//! The two masks, kept up to date by difference: a pass costs what moved, not `T · S`.

use half::f16;

/// What the attention mask adds to a score that must not count. Not −∞, which devices turn into NaN; far below any score, and
/// exactly representable in fp16.
const HIDDEN: f16 = f16::from_f32_const(-40000.0);

/// What the mask tensors hold at present.
#[derive(Debug)]
pub(super) struct Masks {
    context: usize,
    /// Per slot: positions `0..visible` are 0 in the attention mask, the rest hidden.
    visible: Vec<usize>,
    /// First position and number of the ones in the write mask.
    written: (usize, usize),
}

impl Masks {
    /// Hides every position of `attention`, `[1, 1, block, context]`, and keeps book from there. The write mask must be zero.
    pub(super) fn new(attention: &mut [f16], block: usize, context: usize) -> Self {
        attention.fill(HIDDEN);
        Self { context, visible: vec![0; block], written: (0, 0) }
    }

    /// Lets each slot see the first `visible(slot)` positions.
    pub(super) fn show(&mut self, attention: &mut [f16], visible: impl Fn(usize) -> usize) {
        let rows = attention.chunks_exact_mut(self.context);
        for (slot, (row, shown)) in rows.zip(&mut self.visible).enumerate() {
            let wanted = visible(slot).min(self.context);
            let (changed, value) =
                if wanted > *shown { (*shown..wanted, f16::ZERO) } else { (wanted..*shown, HIDDEN) };
            row.get_mut(changed).unwrap_or_default().fill(value);
            *shown = wanted;
        }
    }

    /// Lets slots `0..used` write positions `start..start + used`, and the others nothing.
    pub(super) fn write(&mut self, write: &mut [f16], start: usize, used: usize) {
        let block = self.visible.len();
        let mut put = |(start, used): (usize, usize), value| {
            for (slot, row) in write.chunks_exact_mut(block).skip(start).take(used).enumerate() {
                if let Some(element) = row.get_mut(slot) {
                    *element = value;
                }
            }
        };
        put(self.written, f16::ZERO);
        put((start, used), f16::ONE);
        self.written = (start, used);
    }
}
