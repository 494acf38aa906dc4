//! A tensor of random weights, made as it is written.

use std::io::{self, Write};

use rayon::prelude::*;

use crate::{Content, Encoding, SplitMix64};

/// Weights that one task makes, about.
const TASK: u64 = 1 << 17;

/// Tasks that run before their bytes are written.
const BATCH: u64 = 32;

/// What a tensor's weights are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fill {
    /// Around `mean`, in a bell of deviation `std`.
    Bell { mean: f32, std: f32 },
    /// These.
    Given(Vec<f32>),
}

/// A tensor to make. The same seed and name give the same weights, row by row, whatever else is in the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Weights {
    pub(crate) name: String,
    pub(crate) rows: u64,
    pub(crate) row_len: u64,
    pub(crate) encoding: Encoding,
    pub(crate) seed: u64,
    pub(crate) fill: Fill,
    /// A weight to replace: its index and value. An infinity or NaN spoils its block.
    pub(crate) spoiled: Option<(u64, f32)>,
}

impl Weights {
    /// The weights of rows `start` to `end`, encoded.
    fn rows(&self, start: u64, end: u64) -> Vec<u8> {
        let seed = SplitMix64::derived(self.seed, &self.name, 0).next_u64();
        let mut bytes = Vec::with_capacity(((end - start) * self.encoding.row_bytes(self.row_len)) as usize);
        let mut row = vec![0.0; self.row_len as usize];
        for index in start..end {
            match &self.fill {
                Fill::Bell { mean, std } => {
                    let mut stream = SplitMix64::derived(seed, "", index);
                    for w in &mut row {
                        *w = mean + std * stream.bell();
                    }
                }
                Fill::Given(weights) => {
                    let from = weights.iter().skip((index * self.row_len) as usize);
                    row.iter_mut().zip(from).for_each(|(w, given)| *w = *given);
                }
            }
            if let Some((at, value)) = self.spoiled
                && at / self.row_len == index
                && let Some(w) = row.get_mut((at % self.row_len) as usize)
            {
                *w = value;
            }
            self.encoding.encode(&row, &mut bytes);
        }
        bytes
    }
}

impl Content for Weights {
    fn len(&self) -> u64 {
        self.rows * self.encoding.row_bytes(self.row_len)
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let task_rows = (TASK / self.row_len.max(1)).max(1);
        let tasks = self.rows.div_ceil(task_rows);
        for batch in (0..tasks).step_by(BATCH as usize) {
            let made: Vec<Vec<u8>> = (batch..(batch + BATCH).min(tasks))
                .into_par_iter()
                .map(|task| self.rows(task * task_rows, ((task + 1) * task_rows).min(self.rows)))
                .collect();
            for bytes in made {
                out.write_all(&bytes)?;
            }
        }
        Ok(())
    }
}
