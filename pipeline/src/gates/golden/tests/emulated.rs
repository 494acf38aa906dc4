//! Shards that are not there: the reference, over a model that was changed as a mistake would change it, with weights rounded as the
//! build rounds them and logits in fp16.

use anepipe_gguf::Gguf;
use half::f16;

use crate::gates::golden::edited::Edited;
use crate::gates::golden::{Reference, Stored, Teacher, TeacherError};

/// A model file that answers as shards built of it would.
pub(super) struct Emulated {
    gguf: Gguf,
    context: u32,
    stored: Stored,
}

impl Emulated {
    pub(super) fn new(model: &Edited, context: u32, stored: Stored) -> Self {
        Self { gguf: model.gguf(), context, stored }
    }
}

impl Teacher for Emulated {
    fn logits(
        &mut self,
        tokens: &[u32],
        on_logits: &mut dyn FnMut(usize, &[f16]),
    ) -> Result<(), TeacherError> {
        let reference = Reference::open(&self.gguf, self.context)?.stored_as(self.stored.clone());
        reference.forward(
            tokens,
            |_, _| {},
            |position, row| {
                let row: Vec<f16> = row.iter().map(|&logit| f16::from_f32(logit)).collect();
                on_logits(position, &row);
            },
        )?;
        Ok(())
    }

    fn device(&self) -> &'static str {
        "portable"
    }
}
