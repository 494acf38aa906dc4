//! Multi arrays (`MLMultiArray`): those of a pass, over pages of our own that are filled in place, and those that Core ML makes.

use std::cell::RefCell;
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;

use block2::{RcBlock, StackBlock};
use half::f16;
use objc2::AnyThread as _;
use objc2::rc::Retained;
use objc2_core_ml::{MLMultiArray, MLMultiArrayDataType};
use objc2_foundation::{NSArray, NSInteger, NSNumber};

use super::report::reported;
use crate::coreml::engine::{Change, Look};
use crate::coreml::failure::Failure;
use crate::coreml::pages::Pages;
use crate::coreml::strides::{self, Layout};
use crate::device::Port;

/// An fp16 array without gaps, over pages of our own.
pub(super) struct Array {
    array: Retained<MLMultiArray>,
    pages: Arc<Pages>,
    layout: Layout,
}

// SAFETY: the array is never handed out to other threads; it moves with its owner, which needs `&mut` for all that writes.
// A multi array that only refers to memory has no ties to the thread that made it.
unsafe impl Send for Array {}

impl Array {
    /// A zeroed array of the shape of `port`.
    pub(super) fn new(port: &Port) -> Result<Self, Failure> {
        let layout = Layout::dense(&port.shape)
            .map_err(|source| Failure::Layout { name: port.name.clone(), source })?;
        let too_large = || Failure::TooLarge { shape: port.shape.clone() };
        let pages = Arc::new(Pages::zeroed(layout.span()).ok_or_else(too_large)?);
        let shape = numbers(layout.shape()).ok_or_else(too_large)?;
        let strides = numbers(layout.strides()).ok_or_else(too_large)?;
        // The pages live as long as the array does, also where Core ML keeps it for longer than we do.
        let keep = Arc::clone(&pages);
        let release = RcBlock::new(move |_: NonNull<c_void>| {
            let _ = &keep;
        });
        // SAFETY: the pages hold every element that shape and strides speak of, and outlive the array: the block that goes with it
        // owns a part of them.
        let array = unsafe {
            MLMultiArray::initWithDataPointer_shape_dataType_strides_deallocator_error(
                MLMultiArray::alloc(),
                pages.pointer().cast(),
                &shape,
                MLMultiArrayDataType::Float16,
                &strides,
                Some(&release),
            )
        };
        let array = array.map_err(|error| reported(&error))?;
        Ok(Self { array, pages, layout })
    }

    /// The array, for Core ML.
    pub(super) fn array(&self) -> &Retained<MLMultiArray> {
        &self.array
    }

    /// Overwrites all elements.
    pub(super) fn write(&mut self, values: &[f16]) {
        // SAFETY: Core ML looks at them in predictions only, which take their state, and this array with it, for themselves.
        unsafe { self.pages.write(values) };
    }

    /// Copies all elements to `values`.
    pub(super) fn read(&self, values: &mut [f16]) {
        // SAFETY: as above; a prediction that has returned has written its results.
        unsafe { self.pages.read(values) };
    }

    /// Copies what Core ML gave as the output `name`: from this array, if that is what it wrote to, else from its own.
    pub(super) fn read_given(
        &self,
        given: &Retained<MLMultiArray>,
        name: &str,
        values: &mut [f16],
    ) -> Result<(), Failure> {
        if Retained::as_ptr(given) == Retained::as_ptr(&self.array) {
            self.read(values);
            return Ok(());
        }
        look(given, name, &mut |elements, layout| {
            strides::copy(layout, elements, &self.layout, values)
                .map_err(|source| Failure::Layout { name: name.to_owned(), source })
        })
    }
}

/// Shows the memory and the layout of an array that Core ML made.
pub(super) fn look(array: &MLMultiArray, name: &str, look: &mut Look<'_>) -> Result<(), Failure> {
    check_type(array, name)?;
    // SAFETY: a plain property.
    let strides = unsafe { array.strides() };
    let layout = layout(array, &strides, name)?;
    let result = RefCell::new(Err(missing(name)));
    let look = RefCell::new(look);
    let handler = StackBlock::new(|bytes: NonNull<c_void>, size: NSInteger| {
        // SAFETY: Core ML gives so many bytes of fp16 elements, for as long as this runs, and nobody writes them meanwhile: the
        // state or the output that the array belongs to is borrowed.
        let elements = unsafe { std::slice::from_raw_parts(bytes.cast::<f16>().as_ptr(), count(size)) };
        if let (Ok(mut look), Ok(mut result)) = (look.try_borrow_mut(), result.try_borrow_mut()) {
            *result = look(elements, &layout);
        }
    });
    // SAFETY: the handler is called before this returns, and not kept.
    unsafe { array.getBytesWithHandler(&handler) };
    result.into_inner()
}

/// Gives the memory and the layout of an array that Core ML made, to be changed.
pub(super) fn change(array: &MLMultiArray, name: &str, change: &mut Change<'_>) -> Result<(), Failure> {
    check_type(array, name)?;
    let result = RefCell::new(Err(missing(name)));
    let change = RefCell::new(change);
    let handler =
        StackBlock::new(|bytes: NonNull<c_void>, size: NSInteger, strides: NonNull<NSArray<NSNumber>>| {
            // SAFETY: Core ML gives an array of numbers, for as long as this runs.
            let layout = layout(array, unsafe { strides.as_ref() }, name);
            // SAFETY: Core ML gives so many bytes of fp16 elements to be written, for as long as this runs, and nobody else has them:
            // the state that the array belongs to is borrowed for writing.
            let elements =
                unsafe { std::slice::from_raw_parts_mut(bytes.cast::<f16>().as_ptr(), count(size)) };
            if let (Ok(mut change), Ok(mut result)) = (change.try_borrow_mut(), result.try_borrow_mut()) {
                *result = layout.and_then(|layout| change(elements, &layout));
            }
        });
    // SAFETY: the handler is called before this returns, and not kept.
    unsafe { array.getMutableBytesWithHandler(&handler) };
    result.into_inner()
}

/// How the elements of `array` lie.
fn layout(array: &MLMultiArray, strides: &NSArray<NSNumber>, name: &str) -> Result<Layout, Failure> {
    // SAFETY: a plain property.
    let shape = unsafe { array.shape() };
    Layout::new(&sizes(&shape), &sizes(strides))
        .map_err(|source| Failure::Layout { name: name.to_owned(), source })
}

fn missing(name: &str) -> Failure {
    Failure::Missing { what: "content of", name: name.to_owned() }
}

fn check_type(array: &MLMultiArray, name: &str) -> Result<(), Failure> {
    // SAFETY: a plain property.
    let found = unsafe { array.dataType() };
    match found {
        MLMultiArrayDataType::Float16 => Ok(()),
        MLMultiArrayDataType(found) => Err(Failure::ElementType { name: name.to_owned(), found }),
    }
}

/// fp16 elements in so many bytes.
fn count(bytes: NSInteger) -> usize {
    usize::try_from(bytes).unwrap_or(0) / size_of::<f16>()
}

/// Extents or strides for Core ML; `None` if one of them is beyond its numbers.
fn numbers(values: &[usize]) -> Option<Retained<NSArray<NSNumber>>> {
    let numbers: Option<Vec<_>> =
        values.iter().map(|&value| isize::try_from(value).ok().map(NSNumber::new_isize)).collect();
    Some(NSArray::from_retained_slice(&numbers?))
}

/// Extents or strides from Core ML. A negative one becomes one that no layout takes.
fn sizes(numbers: &NSArray<NSNumber>) -> Vec<usize> {
    numbers.iter().map(|number| usize::try_from(number.as_isize()).unwrap_or(usize::MAX)).collect()
}
