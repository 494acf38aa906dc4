//! A session that stands deep in its context without having been there, for those who measure passes.

use half::f16;

use super::error::SessionError;
use super::{Pass, Session};

impl Session {
    /// Goes to `position` with every cached row before it made of what `value` gives, one call an element: as costly to pass over as
    /// a text of that length, and got to in the time of a copy. What a pass then says means nothing.
    pub fn occupy(&mut self, position: usize, mut value: impl FnMut() -> f16) -> Result<(), SessionError> {
        let context = self.model.context();
        if position > context {
            return Err(SessionError::ContextFull { position: 0, tokens: position, context });
        }
        let functions = self.model.programs.first().map_or(&[][..], |program| &program.layers);
        for ((part, &function), state) in self.model.layers.iter().zip(functions).zip(&mut self.layers) {
            let layout = part.layout(function)?;
            layout
                .rewrite_cache(state.as_mut(), 0..position, |rows| rows.fill_with(&mut value))
                .map_err(|source| SessionError::Shard { path: part.path.clone(), source })?;
        }
        self.position = position;
        self.pass = Pass::default();
        Ok(())
    }
}
