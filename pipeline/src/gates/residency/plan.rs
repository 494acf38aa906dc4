//! A device's own word: Core ML's compute plan, as the Python stage `residency` writes it down on a Mac.

use serde::{Deserialize, Serialize};

use super::report::{Device, OpPlacement, ReportTarget, ResidencyReport, Source};
use super::view::{computes, plain_kind};

/// Operations that a compute plan may leave without a processor: they move what is already where it must be.
const MAY_BE_UNPLACED: [&str; 3] = ["read_state", "write_state", "coreml_update_state"];

/// What a compute plan says, and about which machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComputePlan {
    /// What the machine calls its chip: `Apple M4 Max`.
    pub chip: String,
    /// Version of macOS: `26.1`.
    pub os: String,
    /// Its build: `25B78`. Core ML's compiler belongs to it.
    pub os_build: String,
    /// Every operation of every function, constants included, in order.
    pub ops: Vec<PlannedOp>,
}

/// One operation of a compute plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedOp {
    /// The function it stands in.
    pub function: String,
    /// Its first result; its operator if it has none.
    pub name: String,
    /// Operator, with or without the operator set: `ios18.conv`.
    pub kind: String,
    /// The processor the plan prefers; `null` if it names none.
    pub preferred_device: Option<PlannedDevice>,
    /// Processors that can run it.
    pub supported_devices: Vec<PlannedDevice>,
}

/// A processor in a compute plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlannedDevice {
    /// The Neural Engine.
    Ane,
    /// The GPU.
    Gpu,
    /// The CPU.
    Cpu,
}

impl From<PlannedDevice> for Device {
    fn from(device: PlannedDevice) -> Self {
        match device {
            PlannedDevice::Ane => Self::Ane,
            PlannedDevice::Gpu => Self::Gpu,
            PlannedDevice::Cpu => Self::Cpu,
        }
    }
}

/// A compute plan that cannot be taken for one.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Not JSON, or other fields.
    #[error("reading a compute plan: {0}; write it with the Python stage `residency` of this version")]
    Json(#[from] serde_json::Error),
    /// Nothing in it computes.
    #[error(
        "reading a compute plan: none of its {ops} operations computes, so it proves nothing; was the right model loaded?"
    )]
    Empty {
        /// Operations in it.
        ops: usize,
    },
}

impl ComputePlan {
    /// Reads a plan from JSON.
    pub fn from_json(json: &[u8]) -> Result<Self, PlanError> {
        let plan: Self = serde_json::from_slice(json)?;
        if plan.ops.iter().any(|op| computes(plain_kind(&op.kind))) {
            Ok(plan)
        } else {
            Err(PlanError::Empty { ops: plan.ops.len() })
        }
    }

    /// The report of the shard that reports call `shard`.
    ///
    /// Operations that read or write a state may be without a processor, and are then left out and counted in no total. Any other
    /// without one counts as off the Neural Engine.
    pub fn report(&self, shard: &str) -> ResidencyReport {
        let ops = self.ops.iter().filter(|op| {
            let kind = plain_kind(&op.kind);
            computes(kind) && (op.preferred_device.is_some() || !MAY_BE_UNPLACED.contains(&kind))
        });
        let placed = ops.map(PlannedOp::placement).collect();
        let os = format!("{} ({})", self.os, self.os_build);
        let target = ReportTarget { chip: self.chip.clone(), os };
        let mut report = ResidencyReport::count(shard, Source::Measured, target, placed);
        report.reason = (!report.pass).then(|| {
            format!(
                "measured: {} of {} operations of {shard} off the Neural Engine, {} of {} convolutions",
                report.compute_non_ane, report.compute_total, report.conv_non_ane, report.conv_total
            )
        });
        report
    }
}

impl PlannedOp {
    fn placement(&self) -> OpPlacement {
        let device = self.preferred_device.map_or(Device::None, Device::from);
        let kind = plain_kind(&self.kind).to_owned();
        let off = device != Device::Ane;
        let can = self.supported_devices.contains(&PlannedDevice::Ane);
        let reason = match device {
            Device::None => "measured: the compute plan names no processor for it".to_owned(),
            other if can => format!(
                "measured: the compute plan prefers the {}, though the ane could run it",
                other.name()
            ),
            other => {
                format!("measured: the compute plan prefers the {}; the ane cannot run it", other.name())
            }
        };
        OpPlacement {
            function: self.function.clone(),
            name: if self.name == self.kind { kind.clone() } else { self.name.clone() },

            kind,
            device,
            supported_devices: self.supported_devices.iter().copied().map(Device::from).collect(),
            rule: None,
            reason: off.then_some(reason),
            source: off.then(|| "MLComputePlan".to_owned()),
        }
    }
}
