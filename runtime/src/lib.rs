//! Runs shipped bundles: devices, state, the portable executor, sessions, and decoding.
//!
//! From the bottom up: a [`device`] runs compiled shards, the [`portable`] one on any CPU, the [`coreml`] one on Apple's; [`pass`] keeps
//! book of positions and masks; a [`session`] is one conversation with a whole model; [`draft`] guesses at tokens, and [`decode`]
//! verifies the guesses and chooses tokens, the same with and without them.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use std::sync::Arc;
//!
//! use anepipe_runtime::bundle::Parts;
//! use anepipe_runtime::decode::{Choose, Decoder, Drafting, Generated, Limits, Monotonic, Sampling};
//! use anepipe_runtime::draft::NgramDrafter;
//! use anepipe_runtime::portable::PortableDevice;
//! use anepipe_runtime::session::{Model, Session};
//! use anepipe_runtime::token::TokenId;
//!
//! fn generate(
//!     parts: &Parts,
//!     prompt: &[TokenId],
//!     end_of_text: &[TokenId],
//! ) -> Result<Generated, Box<dyn std::error::Error>> {
//!     let model = Arc::new(Model::open(parts, &PortableDevice::new())?);
//!     let mut session = Session::new(&model)?;
//!     let mut decoder = Decoder {
//!         choose: Choose::new(&Sampling { temperature: 0.7, top_k: 40, seed: 1, ..Sampling::GREEDY })?,
//!         drafter: &mut NgramDrafter::new(),
//!         drafting: Drafting::Adaptive(Box::default()),
//!         clock: &Monotonic::new(),
//!     };
//!     let limits = Limits { max_new: 256, end_of_text };
//!     let stop = |token| if token == 13 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
//!     Ok(decoder.generate(&mut session, prompt, limits, stop)?)
//! }
//!
//! /// Teacher forcing: the largest logit behind each token of a text.
//! fn force(model: &Arc<Model>, text: &[TokenId]) -> Result<Vec<f32>, Box<dyn std::error::Error>> {
//!     let mut largest = Vec::new();
//!     Session::new(model)?.force(text, |position, logits| {
//!         assert_eq!(position, largest.len());
//!         largest.push(logits.iter().map(|logit| logit.to_f32()).fold(f32::NEG_INFINITY, f32::max));
//!     })?;
//!     Ok(largest)
//! }
//! ```

pub mod bundle;
pub mod coreml;
pub mod decode;
pub mod device;
pub mod draft;
pub mod error;
pub mod pass;
pub mod portable;
pub mod rope;
pub mod session;
pub mod tensor;
pub mod token;
pub mod tokenizer;
