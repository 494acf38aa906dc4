//! Which instructions kernels may use, decided when the program runs.

use std::fmt;
use std::sync::OnceLock;

/// A set of instructions that this machine has. There is no way to make one that it lacks, so a kernel that is handed
/// an `Isa` may call functions compiled for it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Isa(Level);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// What the compiler may assume anywhere.
    Baseline,
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-VNNI, with everything of [`Level::Avx2`].
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// AVX-512 F, BW, DQ, VL and VNNI, with everything of [`Level::Avx2`].
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// The dot products of bytes that NEON may have (`FEAT_DotProd`). NEON itself is a part of the baseline.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// NEON's matrix products of bytes (`FEAT_I8MM`), with everything of [`Level::Neon`].
    #[cfg(target_arch = "aarch64")]
    NeonI8mm,
}

impl Isa {
    /// The slowest set, which every machine has.
    pub const BASELINE: Self = Self(Level::Baseline);

    /// Every set this machine has, slowest first.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut)]
        let mut sets = vec![Self::BASELINE];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
        {
            sets.push(Self(Level::Avx2));
            if is_x86_feature_detected!("avxvnni") {
                sets.push(Self(Level::AvxVnni));
            }
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
            {
                sets.push(Self(Level::Avx512));
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("dotprod") {
            sets.push(Self(Level::Neon));
            if std::arch::is_aarch64_feature_detected!("i8mm") {
                sets.push(Self(Level::NeonI8mm));
            }
        }
        sets
    }

    /// The fastest set this machine has; looked for once.
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().last().copied().unwrap_or(Self::BASELINE))
    }

    /// The set called `name` (see [`Isa::name`]), if this machine has it.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::available().into_iter().find(|isa| isa.name() == name)
    }

    /// `baseline`; on x86-64 `avx2`, `avx-vnni` or `avx512`; on 64-bit ARM `neon` or `neon-i8mm`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Level::Baseline => "baseline",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::AvxVnni => "avx-vnni",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512",
            #[cfg(target_arch = "aarch64")]
            Level::Neon => "neon",
            #[cfg(target_arch = "aarch64")]
            Level::NeonI8mm => "neon-i8mm",
        }
    }

    pub(super) fn level(self) -> Level {
        self.0
    }
}

impl fmt::Debug for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Compiles a function once per instruction set and takes the [`Isa`] as an additional first argument.
///
/// The body is ordinary safe code that the compiler vectorizes as far as each set allows. It never fuses or reorders
/// floating-point operations by itself, so all versions give the same bits.
macro_rules! for_each_isa {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        #[allow(unsafe_code, clippy::too_many_arguments)]
        $vis fn $name(isa: $crate::portable::kernel::Isa, $($arg: $ty),*) {
            #[inline(always)]
            fn body($($arg: $ty),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,f16c")]
                fn avx2($($arg: $ty),*) {
                    body($($arg),*);
                }
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
                fn avx512($($arg: $ty),*) {
                    body($($arg),*);
                }
                match isa.level() {
                    // SAFETY: an `Isa` of these levels exists only where the features were detected.
                    $crate::portable::kernel::isa::Level::Avx2
                    | $crate::portable::kernel::isa::Level::AvxVnni => return unsafe { avx2($($arg),*) },
                    // SAFETY: as above.
                    $crate::portable::kernel::isa::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    $crate::portable::kernel::isa::Level::Baseline => {}
                }
            }
            let _ = isa;
            body($($arg),*);
        }
    };
}
pub(crate) use for_each_isa;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_available_set_is_found_by_its_name() {
        for isa in Isa::available() {
            assert_eq!(Isa::by_name(isa.name()), Some(isa));
        }
        assert_eq!(Isa::by_name("abacus"), None);
        assert_eq!(Isa::best(), *Isa::available().last().unwrap());
    }

    /// `make check-arm` names those of the machine it emulates: what is not detected would not be tested.
    #[test]
    fn the_sets_that_the_machine_is_known_to_have_are_available() {
        let names: Vec<_> = Isa::available().into_iter().map(Isa::name).collect();
        let known = std::env::var("ANEPIPE_KNOWN_SETS").unwrap_or_else(|_| names[0].to_owned());
        assert_eq!(names[..known.split(' ').count().max(1)].join(" "), known);
    }
}
