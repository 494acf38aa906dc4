//! Elements that are known before a run: inline in the program, or mapped from its weight files.

use std::borrow::Cow;
use std::sync::Arc;

use anepipe_mil::modelc::ModelC;
use anepipe_mil::program::{Literal, Value};
use half::f16;

use crate::portable::arith::half::round;

#[cfg(target_endian = "big")]
compile_error!("weight files are little-endian and are used in place");

/// A tensor that lies in a weight file of the model and is used there.
#[derive(Clone)]
pub struct Mapped {
    model: Arc<ModelC>,
    /// The weight file, by the name that the program has for it.
    file: String,
    /// Where the blob's record lies.
    offset: u64,
}

impl Mapped {
    /// The elements of `value`, if it lies in a weight file of `model` and is all there.
    pub(super) fn new(model: &Arc<ModelC>, value: &Value) -> Option<Self> {
        model.blob(value).ok().flatten()?;
        let Literal::Blob { file, offset } = &value.literal else { return None };
        Some(Self { model: Arc::clone(model), file: file.clone(), offset: *offset })
    }

    /// The bytes of its elements.
    pub fn bytes(&self) -> &[u8] {
        // `new` found the blob and compared its type, and a mapped file does not change. Every pass comes here: only the record
        // is read.
        let record =
            self.model.weights().get(&self.file).and_then(|weights| weights.record(self.offset).ok());
        record.map_or(&[], |blob| blob.data)
    }
}

impl std::fmt::Debug for Mapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mapped({} at {})", self.file, self.offset)
    }
}

/// The elements of a constant tensor, last axis fastest.
#[derive(Debug, Clone)]
pub enum Constant {
    /// fp16, inline.
    Half(Arc<[f16]>),
    /// fp32.
    Single(Arc<[f32]>),
    /// fp16, in a weight file.
    Mapped(Mapped),
}

impl Constant {
    /// The elements as fp16; those of an fp32 constant are rounded.
    pub fn half(&self) -> Cow<'_, [f16]> {
        match self {
            Self::Half(elements) => Cow::Borrowed(elements),
            Self::Single(elements) => elements.iter().map(|&element| round(element)).collect(),
            Self::Mapped(mapped) => cast(mapped.bytes()),
        }
    }

    /// The elements of an fp16 constant, where they are; nothing if it is fp32.
    pub fn as_half(&self) -> &[f16] {
        match self {
            Self::Half(elements) => elements,
            // Blobs begin at multiples of 64 in a mapping, which begins at a page.
            Self::Mapped(mapped) => bytemuck::try_cast_slice(mapped.bytes()).unwrap_or_default(),
            Self::Single(_) => &[],
        }
    }

    /// The elements as fp32.
    pub fn single(&self) -> Cow<'_, [f32]> {
        match self {
            Self::Single(elements) => Cow::Borrowed(elements),
            Self::Half(_) | Self::Mapped(_) => self.half().iter().map(|element| element.to_f32()).collect(),
        }
    }
}

/// Bytes of a weight file as elements: in place, where they are aligned (mapped blobs always are).
pub(super) fn cast<T: bytemuck::AnyBitPattern + bytemuck::NoUninit>(bytes: &[u8]) -> Cow<'_, [T]> {
    bytemuck::try_cast_slice(bytes).map_or_else(
        |_| Cow::Owned(bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect()),
        Cow::Borrowed,
    )
}

/// The weights of a convolution, `[rows, channels]`.
#[derive(Debug, Clone)]
pub enum Matrix {
    /// int8 with scales: multiplied in exact integer arithmetic.
    Int8 {
        /// The integers.
        weights: Int8,
        /// One per row, or one for all.
        scales: Constant,
    },
    /// fp16: multiplied in fp32.
    Half(Constant),
}

/// int8 elements.
#[derive(Debug, Clone)]
pub enum Int8 {
    /// Inline in the program.
    Inline(Arc<[i8]>),
    /// In a weight file.
    Mapped(Mapped),
}

impl Int8 {
    /// The elements.
    pub fn elements(&self) -> &[i8] {
        match self {
            Self::Inline(elements) => elements,
            Self::Mapped(mapped) => bytemuck::cast_slice(mapped.bytes()),
        }
    }
}
