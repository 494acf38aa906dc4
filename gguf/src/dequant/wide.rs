//! The same kernels for wider vectors, where the machine has them.

/// Whether this machine runs what [`reader`] makes.
#[cfg(target_arch = "x86_64")]
pub(super) fn available() -> bool {
    std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("f16c")
}

/// [`blocks`](super::blocks) by `$block`, compiled for AVX2.
#[cfg(target_arch = "x86_64")]
macro_rules! reader {
    ($block:path) => {{
        #[target_feature(enable = "avx2,f16c")]
        fn vectors(bytes: &[u8], out: &mut [f32]) {
            blocks(bytes, out, $block);
        }
        #[allow(unsafe_code)] // the one call of a function that the machine must be able to run
        fn checked(bytes: &[u8], out: &mut [f32]) {
            // SAFETY: handed out only where `available` has found the instructions.
            unsafe { vectors(bytes, out) }
        }
        wide::available().then_some(checked as Reader)
    }};
}

/// No wider vectors are known here.
#[cfg(not(target_arch = "x86_64"))]
macro_rules! reader {
    ($block:path) => {
        None
    };
}

pub(super) use reader;
