//! What was published, and the programs it was published about.

use std::path::{Path, PathBuf};

use anepipe_mil::Program;
use anepipe_mil::package::Package;
use anepipe_mil::program::Value;
use anepipe_pipeline::gates::residency::{CalibrationRecord, Device, ResidencyReport};
use anepipe_pipeline::python::Worker;
use anepipe_pipeline::stages::graph::{self, GraphSpec, HeadSpec, LayersSpec, MODEL_FILE, Storage, Style};
use serde::Deserialize;
use serde_json::json;

use crate::kit::{self, Decoder};
use crate::python::phi4_mini;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Placements {
    #[serde(rename = "placement")]
    pub(crate) placements: Vec<Placement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Placement {
    /// As the tables name it.
    pub(crate) name: String,
    pub(crate) build: Build,
    outcome: Seen,
    /// The outcome in the words and figures of its source.
    pub(crate) published: String,
    pub(crate) source: String,
    /// The rule that was made (or made milder) because of this outcome, if one was: getting it right proves nothing.
    pub(crate) basis: Option<String>,
    /// Why the prediction differs. Only where it does.
    pub(crate) miss: Option<String>,
}

/// How it is known where a program went.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seen {
    /// Somebody wrote it.
    Said(Outcome),
    /// A device did: a file of `anepipe gate residency --vs-predicted`, and the number of the record in it.
    Recorded { record: PathBuf, number: usize },
}

/// What `anepipe gate residency --vs-predicted` writes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Records {
    #[serde(rename = "schema")]
    _schema: u32,
    records: Vec<CalibrationRecord>,
}

impl Placement {
    /// Where the program went. Records are looked for in `folder`.
    pub(crate) fn outcome(&self, folder: &Path) -> Outcome {
        match &self.outcome {
            Seen::Said(outcome) => outcome.clone(),
            Seen::Recorded { record, number } => {
                let bytes = std::fs::read(folder.join(record)).unwrap();
                let Records { records, .. } = serde_json::from_slice(&bytes).unwrap();
                Outcome::of(&records[*number].report(&self.name))
            }
        }
    }
}

#[test]
fn what_a_device_recorded_is_an_outcome() {
    let op = |name: &str, kind: &str, device: &str| json!({"function": "main", "name": name, "kind": kind, "preferred_device": device, "supported_devices": [device]});
    let plan = |ops: Vec<serde_json::Value>| json!({"chip": "Apple M4", "os": "26.1", "os_build": "25B78", "ops": ops});
    let record = |ops| json!({"schema": 1, "program": "00", "plan": plan(ops)});
    let records = json!({"schema": 1, "records": [
        record(vec![op("a", "ios18.conv", "ane")]),
        record(vec![op("a", "ios18.conv", "ane"), op("b", "ios18.topk", "cpu")]),
        record(vec![op("a", "ios18.conv", "cpu")]),
    ]});
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mac.json"), records.to_string()).unwrap();
    for (number, expected) in
        [Outcome::Resident, Outcome::Partly(vec!["topk".to_owned()]), Outcome::Off].into_iter().enumerate()
    {
        let placement: Placement = toml::from_str(&format!(
            "name = 'x'\nbuild.head = {{ rows = 8 }}\noutcome = {{ record = 'mac.json', number = {number} }}\n\
             published = ''\nsource = 'a Mac'\n"
        ))
        .unwrap();
        assert_eq!(placement.outcome(folder.path()), expected);
    }
}

/// Where the program went.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// Every convolution, and every operation as far as they were counted, on the Neural Engine.
    Resident,
    /// Every convolution off it.
    Off,
    /// It did not load.
    LoadError,
    /// It loads; where it runs is not published.
    Loads,
    /// All but operations of these kinds on it.
    Partly(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Build {
    /// By the graph builder; what is absent is as in Phi-4-mini.
    Layers(Layers),
    /// By the graph builder: a slice of Phi-4-mini's head of this many rows.
    Head { rows: u32 },
    /// By the kit.
    Decoder(Decoder),
    /// By the kit.
    HeadWithTopk { hidden: u64, rows: u64 },
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Layers {
    count: Option<u32>,
    width: Option<u32>,
    context: Option<u32>,
    /// Whether inputs are of flexible width, 1 to `width`.
    flexible: bool,
    /// `[hidden, heads, kv_heads, head_dim, ffn]`
    model: Option<[u32; 5]>,
}

impl Layers {
    fn spec(&self) -> LayersSpec {
        let mut spec = phi4_mini();
        spec.layers = self.count.unwrap_or(1);
        spec.widths = vec![self.width.unwrap_or(4)];
        spec.context = self.context.unwrap_or(spec.context);
        if let Some([hidden, heads, kv_heads, head_dim, ffn]) = self.model {
            spec = LayersSpec { hidden, heads, kv_heads, head_dim, ffn, rope_dim: head_dim, ..spec };
        }
        spec
    }
}

impl Build {
    pub(crate) fn program(&self, worker: &mut Worker, folder: &Path) -> Program {
        match self {
            Self::Layers(layers) => {
                let mut program = built(worker, &GraphSpec::Layers(layers.spec()), folder);
                if layers.flexible {
                    for function in program.functions.values_mut() {
                        let ranges = Value::string("1..4");
                        function.attributes.insert("FlexibleShapeInformation".to_owned(), ranges);
                    }
                }
                program
            }
            Self::Head { rows } => {
                let spec = HeadSpec {
                    style: Style::Stateful,
                    widths: vec![4],
                    hidden: 3072,
                    quantization: Storage::Int8,
                    rows: *rows,
                };
                built(worker, &GraphSpec::LmHead(spec), folder)
            }
            Self::Decoder(decoder) => decoder.program(),
            Self::HeadWithTopk { hidden, rows } => kit::head_with_topk(*hidden, *rows),
        }
    }
}

/// The program of a graph, without weights.
pub(crate) fn built(worker: &mut Worker, spec: &GraphSpec, folder: &Path) -> Program {
    graph::run(worker, spec, folder).unwrap_or_else(|error| panic!("{error}"));
    Package::open(folder.join(MODEL_FILE)).unwrap().model().unwrap().program
}

impl Outcome {
    /// What a report comes to.
    pub(crate) fn of(report: &ResidencyReport) -> Self {
        if report.pass {
            return Self::Resident;
        }
        if report.compute_ane == 0 {
            return Self::Off;
        }
        let off = report.ops.iter().filter(|op| op.device != Device::Ane).map(|op| op.kind.clone());
        let mut kinds: Vec<String> = off.collect();
        kinds.sort();
        kinds.dedup();
        Self::Partly(kinds)
    }

    /// Whether `report` says the same. A program that does not load is off the Neural Engine as well.
    pub(crate) fn agrees(&self, report: &ResidencyReport) -> bool {
        match self {
            Self::LoadError => Self::of(report) == Self::Off,
            Self::Loads => report.violations.iter().all(|hit| hit.rule != "op-count"),
            other => *other == Self::of(report),
        }
    }

    /// Whether anything is off the Neural Engine; nothing where that is not published.
    pub(crate) fn is_off(&self) -> Option<bool> {
        (*self != Self::Loads).then_some(*self != Self::Resident)
    }

    pub(crate) fn in_words(&self) -> String {
        match self {
            Self::Resident => "all on".to_owned(),
            Self::Off => "all off".to_owned(),
            Self::LoadError => "does not load".to_owned(),
            Self::Loads => "loads".to_owned(),
            Self::Partly(kinds) => format!("{} off", kinds.join(", ")),
        }
    }
}
