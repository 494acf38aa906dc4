//! Memory that multi arrays are made of: whole pages, as Core ML asks for where it is to write results without copying them.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use half::f16;

/// A page of Apple silicon, in bytes. Intel Macs have smaller ones, which this is a multiple of.
pub const PAGE: usize = 16 << 10;

/// Zeroed elements that begin on a page and own all pages they lie on.
///
/// A multi array points to them, and Core ML reads and writes them while it predicts; that is why they are not a slice, and why
/// access is unsafe.
#[derive(Debug)]
pub struct Pages {
    pointer: NonNull<f16>,
    elements: usize,
    layout: Layout,
}

// SAFETY: this is memory and nothing else. Whoever gets at its content promises that nobody else does meanwhile.
unsafe impl Send for Pages {}
// SAFETY: as above; with a shared reference alone, the content cannot be got at.
unsafe impl Sync for Pages {}

impl Pages {
    /// Memory for `elements`; `None` if that is more than can be asked for.
    pub fn zeroed(elements: usize) -> Option<Self> {
        let bytes = elements.checked_mul(size_of::<f16>())?.max(1).checked_next_multiple_of(PAGE)?;
        let layout = Layout::from_size_align(bytes, PAGE).ok()?;
        // SAFETY: the size is not 0.
        let pointer = unsafe { alloc_zeroed(layout) };
        match NonNull::new(pointer) {
            Some(pointer) => Some(Self { pointer: pointer.cast(), elements, layout }),
            None => handle_alloc_error(layout),
        }
    }

    /// Where they begin.
    pub fn pointer(&self) -> NonNull<f16> {
        self.pointer
    }

    /// How many there are.
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// Overwrites the first elements with `values`; what does not fit is left out.
    ///
    /// # Safety
    /// Nobody may read or write them meanwhile.
    pub unsafe fn write(&self, values: &[f16]) {
        let count = values.len().min(self.elements);
        // SAFETY: both are at least that long. They do not overlap: only the caller can have made a slice of this memory, and
        // promised that it is not in use.
        unsafe { self.pointer.as_ptr().copy_from_nonoverlapping(values.as_ptr(), count) };
    }

    /// Copies the first elements to `values`, as many as there are in both.
    ///
    /// # Safety
    /// Nobody may write them meanwhile.
    pub unsafe fn read(&self, values: &mut [f16]) {
        let count = values.len().min(self.elements);
        // SAFETY: both are at least that long, and `values` is the caller's alone. All elements are initialized.
        unsafe { self.pointer.as_ptr().copy_to_nonoverlapping(values.as_mut_ptr(), count) };
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with this layout, and not freed since.
        unsafe { dealloc(self.pointer.as_ptr().cast(), self.layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_begin_on_a_page_and_hold_what_was_written() {
        for elements in [0, 1, 8191, 8192, 8193, 100_000] {
            let pages = Pages::zeroed(elements).expect("memory");
            assert_eq!(pages.pointer().as_ptr() as usize % PAGE, 0);
            assert_eq!((pages.elements(), pages.layout.size() % PAGE), (elements, 0));
            assert!(pages.layout.size() >= 2 * elements);

            let values: Vec<f16> = (0..elements).map(|index| f16::from_f32(index as f32)).collect();
            let mut found = vec![f16::NAN; elements + 1];
            // SAFETY: nobody else knows of this memory.
            unsafe { pages.read(&mut found) };
            assert!(found[..elements].iter().all(|value| value.to_bits() == 0));
            // SAFETY: as above.
            unsafe {
                pages.write(&[values.as_slice(), &[f16::ONE]].concat());
                pages.read(&mut found);
            }
            assert_eq!(found[..elements], values);
            assert!(found[elements].is_nan(), "what is not there is not read");
        }
    }

    #[test]
    fn more_than_there_is_address_space_for_is_refused() {
        for elements in [usize::MAX, usize::MAX / 2, isize::MAX as usize / 2] {
            assert!(Pages::zeroed(elements).is_none());
        }
    }
}
