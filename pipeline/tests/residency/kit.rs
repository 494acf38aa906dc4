//! Programs that the graph builder cannot express, as MIL text: whole models, int4 per block, fp16, no states, top-k in the head.
//!
//! Published programs are known by their shapes, not by their graphs, so a decoder here is a plain one: what matters to rules are its
//! weights, states, kinds of operations and how many there are. Where that number is published, layers are filled up to it.

use anepipe_mil::{Program, text};
use serde::Deserialize;

/// Weights that share a scale in int4 per block, as coremltools' default has it.
const BLOCK: u64 = 32;

/// How a decoder's matrices are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Weights {
    Fp16,
    Int8,
    Int4PerBlock,
}

/// A decoder, whole or some of its layers; `vocab` adds the head.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Decoder {
    pub(crate) layers: u64,
    pub(crate) hidden: u64,
    pub(crate) heads: u64,
    pub(crate) kv_heads: u64,
    pub(crate) head_dim: u64,
    pub(crate) ffn: u64,
    pub(crate) context: u64,
    pub(crate) weights: Weights,
    pub(crate) states: bool,
    pub(crate) vocab: Option<u64>,
    /// Operations a layer has at least.
    pub(crate) layer_ops: Option<usize>,
}

#[derive(Default)]
struct Mil {
    inputs: Vec<String>,
    body: String,
    next: usize,
    computing: usize,
    blob: u64,
}

fn tensor(shape: &[u64]) -> String {
    format!("tensor<fp16, {shape:?}>")
}

impl Mil {
    fn input(&mut self, name: &str, shape: &[u64]) -> String {
        self.inputs.push(format!("{} {name}", tensor(shape)));
        name.to_owned()
    }

    fn state(&mut self, name: &str, shape: &[u64]) -> String {
        self.inputs.push(format!("state<{}> {name}", tensor(shape)));
        name.to_owned()
    }

    fn line(&mut self, result: &str, call: &str) {
        self.body.extend([
            result, call, ";
",
        ]);
    }

    fn op(&mut self, shape: &[u64], call: &str) -> String {
        let name = format!("v{}", self.next);
        self.next += 1;
        self.computing += 1;
        self.line(&format!("{} {name} = ", tensor(shape)), call);
        name
    }

    fn blob(&mut self, dtype: &str, shape: &[u64]) -> String {
        self.blob += 64;
        format!(
            "tensor<{dtype}, {shape:?}>(BLOBFILE(path = string(\"@model_path/weights/weight.bin\"), offset = uint64({})))",
            self.blob
        )
    }

    /// A 1×1 convolution of `x` [1, columns, 1, 1] to `rows` channels.
    fn conv(&mut self, x: &str, rows: u64, columns: u64, weights: Weights) -> String {
        let shape = [rows, columns, 1, 1];
        let weight = match weights {
            Weights::Fp16 => self.blob("fp16", &shape),
            Weights::Int8 | Weights::Int4PerBlock => {
                let blocks = if weights == Weights::Int8 { 1 } else { columns / BLOCK };
                let dtype = if weights == Weights::Int8 { "int8" } else { "int4" };
                let (data, scale) = (self.blob(dtype, &shape), self.blob("fp16", &[rows, blocks, 1, 1]));
                let name = format!("w{}", self.next);
                self.next += 1;
                let call = format!("constexpr_blockwise_shift_scale(data = {data}, scale = {scale})");
                self.line(&format!("{} {name} = ", tensor(&shape)), &call);
                name
            }
        };
        self.op(&[1, rows, 1, 1], &format!("conv(x = {x}, weight = {weight})"))
    }

    fn norm(&mut self, x: &str, width: u64) -> String {
        let full = [1, width, 1, 1];
        let squares = self.op(&full, &format!("mul(x = {x}, y = {x})"));
        let mean = self.op(&[1, 1, 1, 1], &format!("reduce_mean(x = {squares})"));
        let inverse = self.op(&[1, 1, 1, 1], &format!("rsqrt(x = {mean}, epsilon = fp16(0x1p-17))"));
        let unit = self.op(&full, &format!("mul(x = {x}, y = {inverse})"));
        let gain = self.blob("fp16", &full);
        self.op(&full, &format!("mul(x = {unit}, y = {gain})"))
    }

    fn program(self, output: &str) -> Program {
        let text = format!(
            "program(1.3) {{ func main<ios18>({}) {{\n{}}} -> ({output}); }}",
            self.inputs.join(", "),
            self.body
        );
        text::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}")).1
    }
}

impl Decoder {
    pub(crate) fn program(&self) -> Program {
        let mut mil = Mil::default();
        let mut x = mil.input("hidden", &[1, self.hidden, 1, 1]);
        let tables = [
            mil.input("cos", &[1, 1, 1, self.head_dim]),
            mil.input("sin", &[1, 1, 1, self.head_dim]),
            mil.input("mask", &[1, 1, 1, self.context]),
            mil.input("write", &[1, 1, self.context, 1]),
        ];
        for layer in 0..self.layers {
            x = self.layer(&mut mil, layer, &x, &tables);
        }
        if let Some(vocab) = self.vocab {
            let normed = mil.norm(&x, self.hidden);
            x = mil.conv(&normed, vocab, self.hidden, self.weights);
        }
        mil.program(&x)
    }

    fn layer(&self, mil: &mut Mil, layer: u64, x: &str, [cos, sin, mask, write]: &[String; 4]) -> String {
        let first = mil.computing;
        let (d, dh, kv, full) = (self.hidden, self.head_dim, self.kv_heads, [1, self.hidden, 1, 1]);
        let (share, rows) = (self.heads / kv, (self.heads + 2 * kv) * dh);
        let normed = mil.norm(x, d);
        let qkv = mil.conv(&normed, rows, d, self.weights);
        let heads = mil.op(&[1, self.heads + 2 * kv, 1, dh], &format!("reshape(x = {qkv})"));
        let query = mil.op(&[1, self.heads, 1, dh], &format!("slice_by_index(x = {heads})"));
        let value = mil.op(&[1, kv, 1, dh], &format!("slice_by_index(x = {heads})"));
        let turned = mil.op(&[1, self.heads, 1, dh], &format!("mul(x = {query}, y = {cos})"));
        let query = mil.op(&[1, self.heads, 1, dh], &format!("mul(x = {turned}, y = {sin})"));
        let cache = [1, kv, self.context, dh];
        let [keys, values] = ["k", "v"].map(|name| {
            let name = format!("{name}_{layer}");
            if !self.states {
                return mil.input(&name, &cache);
            }
            let state = mil.state(&name, &cache);
            let old = mil.op(&cache, &format!("read_state(input = {state})"));
            let placed = mil.op(&cache, &format!("matmul(x = {write}, y = {value})"));
            let new = mil.op(&cache, &format!("add(x = {old}, y = {placed})"));
            mil.line("", &format!("write_state(input = {state}, data = {new})"));
            mil.computing += 1;
            new
        });
        let mut sums = Vec::new();
        for _ in 0..kv {
            let q = mil.op(&[1, share, 1, dh], &format!("slice_by_index(x = {query})"));
            let k = mil.op(&[1, 1, self.context, dh], &format!("slice_by_index(x = {keys})"));
            let v = mil.op(&[1, 1, self.context, dh], &format!("slice_by_index(x = {values})"));
            let scored = [1, share, 1, self.context];
            let scores = mil.op(&scored, &format!("matmul(x = {q}, y = {k}, transpose_y = bool(true))"));
            let masked = mil.op(&scored, &format!("add(x = {scores}, y = {mask})"));
            let weights = mil.op(&scored, &format!("softmax(x = {masked})"));
            sums.push(mil.op(&[1, share, 1, dh], &format!("matmul(x = {weights}, y = {v})")));
        }
        let joined = mil.op(&[1, self.heads, 1, dh], &format!("concat(values = ({}))", sums.join(", ")));
        let joined = mil.op(&[1, self.heads * dh, 1, 1], &format!("reshape(x = {joined})"));
        let attended = mil.conv(&joined, d, self.heads * dh, self.weights);
        let mut x = mil.op(&full, &format!("add(x = {x}, y = {attended})"));
        let normed = mil.norm(&x, d);
        let both = mil.conv(&normed, 2 * self.ffn, d, self.weights);
        let inner = [1, self.ffn, 1, 1];
        let gate = mil.op(&inner, &format!("slice_by_index(x = {both})"));
        let up = mil.op(&inner, &format!("slice_by_index(x = {both})"));
        let gate = mil.op(&inner, &format!("silu(x = {gate})"));
        let gated = mil.op(&inner, &format!("mul(x = {gate}, y = {up})"));
        let down = mil.conv(&gated, d, self.ffn, self.weights);
        while mil.computing - first + 1 < self.layer_ops.unwrap_or(0) {
            x = mil.op(&full, &format!("mul(x = {x}, y = fp16(0x1p+0))"));
        }
        mil.op(&full, &format!("add(x = {x}, y = {down})"))
    }
}

/// A slice of an LM head with a search for the best 8 of its `rows` logits inside.
pub(crate) fn head_with_topk(hidden: u64, rows: u64) -> Program {
    let mut mil = Mil::default();
    let x = mil.input("hidden", &[1, hidden, 1, 1]);
    let logits = mil.conv(&x, rows, hidden, Weights::Int8);
    let flat = mil.op(&[1, 1, 1, rows], &format!("reshape(x = {logits})"));
    let best = [1, 1, 1, 8];
    mil.line(
        &format!("{} best, tensor<int32, {best:?}> at = ", tensor(&best)),
        &format!("topk(x = {flat}, k = int32(8))"),
    );
    mil.line(&format!("tensor<int16, {best:?}> id = "), "cast(x = at, dtype = string(\"int16\"))");
    let scaled = mil.op(&best, "mul(x = best, y = fp16(0x1p+0))");
    mil.program(&format!("{scaled}, id"))
}
