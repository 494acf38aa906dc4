//! From a device's name to the device.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use super::Device;
use crate::error::RuntimeError;
use crate::portable::{Isa, PortableDevice};

/// The devices there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceKind {
    /// The executor of this crate, on any CPU.
    #[default]
    Portable,
    /// Core ML, on Apple systems: Neural Engine and CPU.
    CoreMl,
}

impl DeviceKind {
    /// Every device, whether or not it can be opened here.
    pub const ALL: [Self; 2] = [Self::Portable, Self::CoreMl];

    /// The name, as [`Device::name`] gives it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::CoreMl => "coreml",
        }
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DeviceKind {
    type Err = RuntimeError;

    fn from_str(name: &str) -> Result<Self, RuntimeError> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| RuntimeError::Device {
            device: name.to_owned(),
            reason: format!(
                "there is no such device; there are {}",
                Self::ALL.map(|kind| format!("`{kind}`")).join(" and ")
            ),
        })
    }
}

/// What the portable device may use of this machine; everything it has unless something is named. No bit depends on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cpu {
    /// Threads; one a core if absent.
    pub threads: Option<NonZeroUsize>,
    /// Instructions; the best there are if absent.
    pub isa: Option<Isa>,
}

impl Cpu {
    /// A portable device that keeps to it.
    pub fn device(self) -> Result<PortableDevice, RuntimeError> {
        let device = PortableDevice::new().with_isa(self.isa.unwrap_or_else(Isa::best));
        match self.threads {
            Some(count) => device.with_threads(count),
            None => Ok(device),
        }
    }
}

/// Opens the device. `cpu` is about the portable one; Core ML decides for itself, so there anything named is an error.
pub fn open(kind: DeviceKind, cpu: Cpu) -> Result<Box<dyn Device>, RuntimeError> {
    match kind {
        DeviceKind::Portable => Ok(Box::new(cpu.device()?)),
        DeviceKind::CoreMl if cpu == Cpu::default() => core_ml(),
        DeviceKind::CoreMl => Err(RuntimeError::Device {
            device: kind.to_string(),
            reason: "Core ML decides by itself which threads and instructions it uses; leave them out"
                .to_owned(),
        }),
    }
}

#[cfg(target_vendor = "apple")]
fn core_ml() -> Result<Box<dyn Device>, RuntimeError> {
    Ok(Box::new(crate::coreml::AppleDevice::open()?))
}

#[cfg(not(target_vendor = "apple"))]
fn core_ml() -> Result<Box<dyn Device>, RuntimeError> {
    Err(RuntimeError::Device {
        device: DeviceKind::CoreMl.to_string(),
        reason: format!(
            "Core ML is a part of Apple's systems, and this anepipe was built for {} on {}; run it on a Mac with Apple silicon and \
             macOS 15 or later, or use the device `{}`",
            std::env::consts::OS,
            std::env::consts::ARCH,
            DeviceKind::Portable
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_devices_are_one_to_one() {
        for kind in DeviceKind::ALL {
            assert_eq!(kind.to_string().parse::<DeviceKind>().expect("a device"), kind);
        }
        let error = "ane".parse::<DeviceKind>().expect_err("no such device").to_string();
        assert_eq!(
            error,
            "opening the device `ane`: there is no such device; there are `portable` and `coreml`"
        );
        assert_eq!(DeviceKind::default(), DeviceKind::Portable);
    }

    #[test]
    fn the_portable_device_opens_with_and_without_limits() {
        for threads in [None, NonZeroUsize::new(1), NonZeroUsize::new(3)] {
            for isa in [None, Some(Isa::BASELINE)] {
                let device = open(DeviceKind::Portable, Cpu { threads, isa }).expect("a device");
                assert_eq!(device.name(), "portable");
                assert_eq!(device.load_times(), []);
            }
        }
    }

    #[test]
    fn core_ml_has_no_limits() {
        let threads = Cpu { threads: NonZeroUsize::new(2), isa: None };
        for cpu in [threads, Cpu { threads: None, isa: Some(Isa::BASELINE) }] {
            let error = open(DeviceKind::CoreMl, cpu).err().expect("refused").to_string();
            assert!(error.contains("leave them out"), "{error}");
        }
    }

    #[cfg(not(target_vendor = "apple"))]
    #[test]
    fn core_ml_away_from_apple_says_what_it_needs() {
        let error = open(DeviceKind::CoreMl, Cpu::default()).err().expect("refused").to_string();
        for needed in ["opening the device `coreml`", "Apple silicon", "macOS 15", "device `portable`"] {
            assert!(error.contains(needed), "{error}");
        }
    }
}
