//! Each rule about operations, states or inputs, on a program made for it and on one that just keeps it.

use super::tests::{X, conv, ids, op, report};
use super::{Device, Kind};

/// A program and what is expected of its last operation.
struct Case {
    name: &'static str,
    inputs: String,
    body: String,
    /// The hard rule that decides.
    hard: Option<&'static str>,
    /// The only warning.
    warning: Option<&'static str>,
}

impl Case {
    /// On the Neural Engine, without a word.
    fn on(name: &'static str, inputs: impl Into<String>, body: impl Into<String>) -> Self {
        Self { name, inputs: inputs.into(), body: body.into(), hard: None, warning: None }
    }

    /// Off it, by this rule.
    fn off(self, rule: &'static str) -> Self {
        Self { hard: Some(rule), ..self }
    }

    /// On it, with this warning.
    fn warned(self, rule: &'static str) -> Self {
        Self { warning: Some(rule), ..self }
    }

    fn check(&self) {
        let report = report(&self.inputs, &self.body);
        let last = report.ops.last().unwrap();
        assert_eq!(last.rule.as_deref(), self.hard, "{}: {report}", self.name);
        assert_eq!(report.pass, self.hard.is_none(), "{}", self.name);
        assert_eq!(last.device, if self.hard.is_some() { Device::Cpu } else { Device::Ane }, "{}", self.name);
        assert_eq!(ids(&report, Kind::Warning), Vec::from_iter(self.warning), "{}", self.name);
    }
}

fn check(cases: &[Case]) {
    for case in cases {
        case.check();
    }
}

/// `x` of this type, and one activation of it.
fn relu(name: &'static str, ty: &str) -> Case {
    Case::on(name, format!("{ty} x"), format!("{ty} y = relu(x = x);"))
}

/// One operation on [`X`].
fn one(name: &'static str, call: &str) -> Case {
    Case::on(name, X, op(call))
}

#[test]
fn kinds() {
    check(&[
        one("a plain kind", "relu(x = x)"),
        one("a kind by its beginning", "gather_along_axis(x = x, indices = x)").off("rejected-kind"),
        one("a kind by its name", "cumsum(x = x)").off("rejected-kind"),
        one("a name is no beginning", "tanh(x = x)"),
        one("fused attention", "scaled_dot_product_attention(query = x)").off("fused-attention"),
        one("argmax", "reduce_argmax(x = x, axis = int32(-1))").off("argmax"),
        one("a cast outside of a head", "cast(x = x)"),
        one("topk outside of a head", "topk(x = x)").warned("topk"),
        one("slice_update", "slice_update(x = x, update = x)").warned("slice-update-m4"),
    ]);
    let logits = conv("int8", "[8, 1, 1, 1]").replace(" y = ", " l = ");
    let in_head = |call: &str| format!("{logits} {}", op(call));
    check(&[
        Case::on("a cast in a head", X, in_head("cast(x = l)")).off("head-topk-cast"),
        Case::on("topk in a head", X, in_head("topk(x = l)")).off("head-topk-cast"),
        Case::on("another kind in a head", X, in_head("relu(x = l)")),
    ]);
}

#[test]
fn element_types() {
    let begin = "tensor<int32, [4]> b = const()[val = tensor<int32, [4]>([0, 0, 0, 0])];";
    let sliced = format!("{begin} {}", op("slice_by_index(x = x, begin = b)"));
    check(&[
        relu("fp16", "tensor<fp16, [1, 8, 4, 16]>"),
        relu("int8", "tensor<int8, [1, 8, 4, 16]>"),
        relu("int32", "tensor<int32, [1, 8, 4, 16]>").off("dtype"),
        relu("fp32", "tensor<fp32, [1, 8, 4, 16]>").off("dtype"),
        relu("bool", "tensor<bool, [1, 8, 4, 16]>").off("dtype"),
        Case::on("int32 constants", X, sliced),
    ]);
}

#[test]
fn extents() {
    let product = "tensor<fp16, [1, 1, 4, 4]> y = matmul(x = a, y = b, transpose_x = bool(true));";
    let factors =
        |terms: u64| format!("tensor<fp16, [1, 1, {terms}, 4]> a, tensor<fp16, [1, 1, {terms}, 4]> b");
    let kernel = |channels: u64| {
        let file = "BLOBFILE(path = string(\"@model_path/w\"), offset = uint64(64))";
        op(&format!("conv(x = x, weight = tensor<fp16, [8, {channels}, 3, 3]>({file}))"))
    };
    check(&[
        relu("rank 6", "tensor<fp16, [1, 1, 1, 1, 1, 2]>").off("rank"),
        relu("rank 5", "tensor<fp16, [1, 1, 1, 1, 2]>"),
        relu("width", "tensor<fp16, [1, 1, 1, 65537]>").off("extent-65536"),
        relu("width at the limit", "tensor<fp16, [1, 1, 1, 65536]>"),
        relu("height", "tensor<fp16, [1, 1, 65537, 8]>").off("extent-65536"),
        relu("channels", "tensor<fp16, [1, 65537, 1, 8]>").warned("channels-65536-m4"),
        relu("batch", "tensor<fp16, [65537, 1, 1, 8]>"),
        // As a height the inputs are too large as well; a product of that many terms is one all the same.
        Case::on("terms of a product", factors(65537), product).off("extent-65536"),
        Case::on("terms of a product at the limit", factors(65536), product),
        Case::on("terms of a convolution", X, kernel(7282)).off("extent-65536"),
        Case::on("terms of a convolution below the limit", X, kernel(7281)),
    ]);
}

#[test]
fn forms() {
    check(&[
        one("no epsilon", "rsqrt(x = x)").off("epsilon-missing"),
        one("an epsilon", "rsqrt(x = x, epsilon = fp16(0x1p-10))"),
        one("an epsilon of zero, said", "rsqrt(x = x, epsilon = fp16(0x0p+0))"),
        one("an epsilon below fp16", "log(x = x, epsilon = fp32(0x1p-40))").warned("epsilon-too-small"),
        one("an infinite mask", "add(x = x, y = tensor<fp16, [1]>([-inf]))").warned("infinite-mask"),
        one("a finite mask", "add(x = x, y = tensor<fp16, [1]>([-40000.0]))"),
        Case::on("a last axis of 1", "tensor<fp16, [1, 8, 4, 1]> x", conv("int8", "[8, 1, 1, 1]"))
            .warned("last-axis-1"),
        relu("a last axis of 1 without a convolution", "tensor<fp16, [1, 8, 4, 1]>"),
        relu("a flexible shape", "tensor<fp16, [1, 8, ?, 16]>").warned("flexible-shapes-m4"),
    ]);
}

#[test]
fn weights() {
    let (row, block) = ("[8, 1, 1, 1]", "[8, 2, 1, 1]");
    let with_state = format!("state<tensor<fp16, [1, 2, 64, 64]>> kv, {X}");
    check(&[
        Case::on("int8, a scale a row", X, conv("int8", row)),
        Case::on("int8, a scale a block", X, conv("int8", block)).warned("int8-per-block"),
        Case::on("int4, a scale a row", X, conv("int4", row)),
        Case::on("int4, a scale a block", X, conv("int4", block)).off("int4-per-block"),
        Case::on("the same with a state", with_state.clone(), conv("int4", block))
            .off("int4-per-block-shard"),
        Case::on("the same in a large model", with_state, conv("int4", block).repeat(97))
            .warned("int4-per-block-whole"),
    ]);
}

#[test]
fn states() {
    let state = |shape: &str| format!("state<tensor<fp16, {shape}>> kv, {X}");
    let written =
        "tensor<fp16, [1, 2, 64, 64]> y = read_state(input = kv); write_state(input = kv, data = y);";
    check(&[
        Case::on("270 rows", state("[1, 2, 270, 64]"), op("relu(x = x)")).off("state-dims"),
        Case::on("256 rows", state("[1, 2, 256, 64]"), op("relu(x = x)")),
        Case::on("40 columns", state("[1, 2, 64, 40]"), op("relu(x = x)")).off("state-dims"),
        Case::on("a state that is written", state("[1, 2, 64, 64]"), written).warned("kv-write-in-graph"),
    ]);
}
