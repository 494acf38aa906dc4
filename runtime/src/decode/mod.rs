//! Decoding: from a prompt to tokens, exactly, with or without drafts.
//!
//! A pass carries the token chosen last and up to T − 1 draft tokens behind it. The model's own choices are then read off slot by
//! slot: as long as a choice equals the draft token in the next slot, that slot computed what a pass of its own would have
//! computed, and its logits count. The first choice that differs is the model's next token all the same, since every slot before
//! it held the model's own text. So each pass gives one token more than it accepts of the draft.
//!
//! # Why the tokens do not depend on drafts
//!
//! [`Choose`] is a function of logits and position. The logits behind a token depend on that token, on its position and on the
//! committed tokens before it, not on the width of the pass, on the slot, on the other slots, or on what rejected drafts left in
//! the cache: the invariances that the parity gate proves, to the bit on the portable device. Drafters, gate and clock only decide
//! which passes are run.
//!
//! One thing a draft can do: if its keys or values overflow fp16, the masked write of the `stateful` style spreads NaN over the
//! cache, because 0 · ∞ is NaN. All logits are NaN from then on, so the generation ends in [`DecodeError::NoChoice`] where plain
//! decoding would have gone on: an error, never another token. No model whose gates pass does that on any token it was trained on.

mod choose;
mod clock;
mod generate;
mod policy;
mod sampler;
mod statistics;

pub use choose::{Choose, argmax};
pub use clock::{Clock, Monotonic};
pub use generate::{DecodeError, Decoder, End, Generated, Limits};
pub use policy::Drafting;
pub use sampler::{Sampler, Sampling, SamplingError};
pub use statistics::Statistics;
