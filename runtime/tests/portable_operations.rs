//! Each operation by itself: against results worked out by hand, and the plan against the interpreter on any bits.

mod fixture;

use anepipe_runtime::device::{Device, Shard};
use anepipe_runtime::portable::{Executor, Isa, PortableDevice};
use fixture::random::Random;
use fixture::{Model, Var, half, ints};
use half::f16;

/// Names and shapes.
type Inputs = &'static [(&'static str, &'static [usize])];

/// A function of `inputs` with one result: the right side of its only operation.
struct Case {
    inputs: Inputs,
    output: &'static [usize],
    operation: &'static str,
    arguments: String,
}

impl Case {
    fn load(&self, executor: Executor, isa: Isa) -> Box<dyn Shard> {
        let directory = tempfile::tempdir().unwrap();
        let mut model = Model::new();
        for (name, shape) in self.inputs {
            model.input(name, shape);
        }
        let output: Var = model.op(self.output, self.operation, &self.arguments);
        model.save(directory.path(), &[output]);
        let device = PortableDevice::new().with_executor(executor).with_isa(isa);
        // The files are mapped, so they may go.
        device.load(directory.path()).unwrap_or_else(|error| panic!("{}: {error}", self.operation))
    }
}

fn run(shard: &dyn Shard, fill: impl Fn(usize, usize) -> f16) -> Vec<f16> {
    let signature = &shard.functions()[0].signature;
    let (mut inputs, mut outputs) = (signature.new_inputs(), signature.new_outputs());
    for (tensor, input) in inputs.iter_mut().enumerate() {
        input.data_mut().iter_mut().enumerate().for_each(|(index, value)| *value = fill(tensor, index));
    }
    shard.predict(0, &inputs, shard.new_state().as_mut(), &mut outputs).unwrap();
    outputs[0].data().to_vec()
}

fn case(
    inputs: Inputs,
    output: &'static [usize],
    operation: &'static str,
    arguments: impl Into<String>,
) -> Case {
    Case { inputs, output, operation, arguments: arguments.into() }
}

const X: &str = "x";
const Y: &str = "y";

/// Every operation in every form that takes a way of its own through the plan.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let shapes: [(Inputs, &[usize]); 6] = [
        (&[(X, &[3, 100, 2]), (Y, &[3, 100, 2])], &[3, 100, 2]),
        (&[(X, &[1, 70, 4, 1]), (Y, &[1, 1, 4, 1])], &[1, 70, 4, 1]),
        (&[(X, &[1, 70, 4, 1]), (Y, &[1, 70, 1, 1])], &[1, 70, 4, 1]),
        (&[(X, &[5, 3, 48]), (Y, &[3, 48])], &[5, 3, 48]),
        (&[(X, &[7, 1, 3]), (Y, &[1, 5, 1])], &[7, 5, 3]),
        (&[(X, &[]), (Y, &[300])], &[300]),
    ];
    for operation in ["add", "sub", "mul", "real_div", "maximum", "minimum"] {
        for (inputs, output) in shapes {
            cases.push(case(inputs, output, operation, "x = x, y = y"));
        }
        cases.push(case(&[(X, &[2, 200])], &[2, 200], operation, format!("x = x, y = {}", half(-1.5))));
    }
    let one: Inputs = &[(X, &[2, 150])];
    for operation in ["abs", "sqrt", "square", "exp", "tanh", "sigmoid", "silu", "relu"] {
        cases.push(case(one, &[2, 150], operation, "x = x"));
    }
    for (operation, arguments) in [
        ("rsqrt", format!("epsilon = {}, x = x", half(0.0))),
        ("rsqrt", "x = x".to_owned()),
        ("inverse", format!("epsilon = {}, x = x", half(0.5))),
        ("gelu", "mode = string(\"TANH_APPROXIMATION\"), x = x".to_owned()),
        ("gelu", "mode = string(\"SIGMOID_APPROXIMATION\"), x = x".to_owned()),
        ("clip", format!("alpha = {}, beta = {}, x = x", half(-0.5), half(2.0))),
        ("identity", "x = x".to_owned()),
        ("cast", "dtype = string(\"fp16\"), x = x".to_owned()),
    ] {
        cases.push(case(one, &[2, 150], operation, arguments));
    }
    let block: Inputs = &[(X, &[2, 37, 3])];
    for (axis, output) in [(0, &[1usize, 37, 3]), (1, &[2, 1, 3]), (2, &[2, 37, 1])] {
        for operation in ["reduce_sum", "reduce_mean", "reduce_sum_square", "reduce_max", "reduce_min"] {
            let arguments = format!("axes = {}, keep_dims = bool(true), x = x", ints(&[axis]));
            cases.push(case(block, output, operation, arguments));
        }
        cases.push(case(block, &[2, 37, 3], "softmax", format!("axis = int32({axis}), x = x")));
        cases.push(case(block, &[2, 37, 3], "layer_norm", format!("axes = {}, x = x", ints(&[axis]))));
    }
    for (axes, output) in [(vec![1, 2], &[2usize] as &[usize]), (vec![0, 2], &[37]), (vec![0, 1, 2], &[])] {
        cases.push(case(
            block,
            output,
            "reduce_sum",
            format!("axes = {}, keep_dims = bool(false), x = x", ints(&axes)),
        ));
    }
    let affine: Inputs = &[("b", &[37]), ("g", &[37]), (X, &[2, 37, 3])];
    cases.push(case(
        affine,
        &[2, 37, 3],
        "layer_norm",
        format!("axes = {}, beta = b, epsilon = {}, gamma = g, x = x", ints(&[1]), half(0.25)),
    ));
    let cube: Inputs = &[(X, &[2, 3, 4, 5])];
    for (perm, output) in
        [([0, 1, 3, 2], [2usize, 3, 5, 4]), ([3, 2, 1, 0], [5, 4, 3, 2]), ([0, 2, 1, 3], [2, 4, 3, 5])]
    {
        let output: &'static [usize] = Box::leak(Box::new(output));
        cases.push(case(cube, output, "transpose", format!("perm = {}, x = x", ints(&perm))));
    }
    cases.push(case(cube, &[6, 20], "reshape", format!("shape = {}, x = x", ints(&[6, 20]))));
    let bounds = |begin: &[usize], end: &[usize]| format!("begin = {}, end = {}", ints(begin), ints(end));
    for (arguments, output) in [
        (bounds(&[0, 1, 0, 0], &[2, 2, 4, 5]), &[2usize, 1, 4, 5] as &[usize]),
        (bounds(&[1, 0, 0, 0], &[2, 3, 4, 5]), &[1, 3, 4, 5]),
        (bounds(&[0, 0, 1, 2], &[2, 3, 3, 5]), &[2, 3, 2, 3]),
        (format!("{}, stride = {}", bounds(&[0, 0, 1, 0], &[2, 3, 4, 5]), ints(&[1, 2, 2, 3])), &[2, 2, 2, 2]),
        (
            "begin = tensor<int32, [4]>([0, -2, 0, -5]), begin_mask = tensor<bool, [4]>([true, false, false, false]), \
             end = tensor<int32, [4]>([0, -1, 4, 9]), end_mask = tensor<bool, [4]>([true, false, false, false]), \
             squeeze_mask = tensor<bool, [4]>([false, false, true, false])"
                .to_owned(),
            &[2, 1, 5],
        ),
    ] {
        cases.push(case(cube, output, "slice_by_index", format!("{arguments}, x = x")));
    }
    let update: Inputs = &[("u", &[2, 1, 4, 2]), (X, &[2, 3, 4, 5])];
    let arguments = format!("{}, update = u, x = x", bounds(&[0, 1, 0, 3], &[2, 2, 4, 5]));
    cases.push(case(update, &[2, 3, 4, 5], "slice_update", arguments));
    let parts: Inputs = &[("a", &[2, 3, 4]), ("b", &[2, 1, 4])];
    cases.push(case(
        parts,
        &[2, 5, 4],
        "concat",
        "axis = int32(-2), interleave = bool(false), values = (a, b, b)",
    ));
    let products: [(bool, bool, Inputs); 4] = [
        (false, false, &[(X, &[2, 3, 5, 20]), (Y, &[1, 3, 20, 7])]),
        (false, true, &[(X, &[2, 3, 5, 20]), (Y, &[7, 20])]),
        (true, false, &[(X, &[2, 1, 20, 5]), (Y, &[3, 20, 7])]),
        (true, true, &[(X, &[2, 3, 20, 5]), (Y, &[2, 3, 7, 20])]),
    ];
    for (transpose_x, transpose_y, inputs) in products {
        let arguments =
            format!("transpose_x = bool({transpose_x}), transpose_y = bool({transpose_y}), x = x, y = y");
        cases.push(case(inputs, &[2, 3, 5, 7], "matmul", arguments));
    }
    cases
}

fn bits(values: &[f16]) -> Vec<u16> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn the_plan_gives_the_interpreters_bits() {
    for (index, case) in cases().iter().enumerate() {
        let judge = case.load(Executor::Interpreter, Isa::BASELINE);
        let plans: Vec<_> =
            Isa::available().into_iter().map(|isa| (isa, case.load(Executor::Plan, isa))).collect();
        for seed in 0..12 {
            let mut random = Random(seed << 32 | index as u64);
            let noise: Vec<f16> = random.halves(4096, |random| match seed % 4 {
                0 => f16::from_f32(random.normal()),
                1 if random.below(30) == 0 => random.nasty(),
                1 => f16::from_f32(random.normal() * 100.0),
                2 => random.nasty(),
                _ => random.any_half(),
            });
            let fill = |tensor: usize, index: usize| noise[(tensor * 1000 + index) % noise.len()];
            let expected = bits(&run(judge.as_ref(), fill));
            for (isa, plan) in &plans {
                let Case { inputs, operation, arguments, .. } = case;
                let found = bits(&run(plan.as_ref(), fill));
                assert_eq!(expected, found, "{isa:?} {operation}({arguments}) {inputs:?}");
            }
        }
    }
}

/// Results worked out by hand, from inputs 0, 1, 2, … (`x`) and 1, 2, 3, … (`y`).
#[test]
fn operations_mean_what_core_ml_says() {
    let four: Inputs = &[(X, &[2, 2])];
    let pair: Inputs = &[(X, &[2, 2]), (Y, &[2])];
    let table: Vec<(Case, Vec<f32>)> = vec![
        (case(pair, &[2, 2], "add", "x = x, y = y"), vec![1.0, 3.0, 3.0, 5.0]),
        (case(pair, &[2, 2], "sub", "x = y, y = x"), vec![1.0, 1.0, -1.0, -1.0]),
        (case(pair, &[2, 2], "real_div", "x = x, y = y"), vec![0.0, 0.5, 2.0, 1.5]),
        (case(pair, &[2, 2], "maximum", "x = x, y = y"), vec![1.0, 2.0, 2.0, 3.0]),
        (
            case(four, &[2, 2], "rsqrt", format!("epsilon = {}, x = x", half(1.0))),
            vec![1.0, 0.707_03, 0.577_15, 0.5],
        ),
        (
            case(four, &[2, 2], "inverse", format!("epsilon = {}, x = x", half(1.0))),
            vec![1.0, 0.5, 0.333_25, 0.25],
        ),
        (case(four, &[2, 2], "silu", "x = x"), vec![0.0, 0.731, 1.762, 2.857]),
        (case(four, &[2, 2], "softmax", "axis = int32(-1), x = x"), vec![0.269, 0.731, 0.269, 0.731]),
        (
            case(four, &[2], "reduce_mean", format!("axes = {}, keep_dims = bool(false), x = x", ints(&[0]))),
            vec![1.0, 2.0],
        ),
        (
            case(
                four,
                &[2],
                "reduce_sum_square",
                format!("axes = {}, keep_dims = bool(false), x = x", ints(&[1])),
            ),
            vec![1.0, 13.0],
        ),
        (case(four, &[1, 1], "reduce_max", "keep_dims = bool(true), x = x"), vec![3.0]),
        (
            case(four, &[2, 2], "transpose", format!("perm = {}, x = x", ints(&[1, 0]))),
            vec![0.0, 2.0, 1.0, 3.0],
        ),
        (
            case(
                four,
                &[2, 2],
                "matmul",
                "transpose_x = bool(false), transpose_y = bool(true), x = x, y = x",
            ),
            vec![1.0, 3.0, 3.0, 13.0],
        ),
        (
            case(
                four,
                &[2, 2],
                "layer_norm",
                format!("axes = {}, epsilon = {}, x = x", ints(&[1]), half(0.0)),
            ),
            vec![-1.0, 1.0, -1.0, 1.0],
        ),
        (
            case(four, &[2, 2], "clip", format!("alpha = {}, beta = {}, x = x", half(1.0), half(2.0))),
            vec![1.0, 1.0, 2.0, 2.0],
        ),
        (
            case(four, &[2, 4], "concat", "axis = int32(1), interleave = bool(false), values = (x, x)"),
            vec![0.0, 1.0, 0.0, 1.0, 2.0, 3.0, 2.0, 3.0],
        ),
    ];
    for (case, expected) in table {
        for executor in [Executor::Interpreter, Executor::Plan] {
            let shard = case.load(executor, Isa::best());
            let found = run(shard.as_ref(), |tensor, index| f16::from_f32((tensor + index) as f32));
            let close = found.len() == expected.len()
                && found.iter().zip(&expected).all(|(found, expected)| {
                    (found.to_f32() - expected).abs() < 5e-4 * (1.0 + expected.abs())
                });
            assert!(close, "{}({}): {found:?}, not {expected:?}", case.operation, case.arguments);
        }
    }
}

/// A split gives several results, a state lives from pass to pass, fp32 is rounded only where the program says.
#[test]
fn programs_of_several_operations_run() {
    let directory = tempfile::tempdir().unwrap();
    let mut model = Model::new();
    model.state("count", &[3]);
    let x = model.input("x", &[3]);
    let old = model.op(&[3], "read_state", "input = count");
    let new = model.op(&[3], "add", &format!("x = {old}, y = {x}"));
    model.effect(&format!("write_state(data = {new}, input = count)[name = string(\"w\")]"));
    let read = model.op(&[3], "read_state", "input = count");
    // 2048 + 1 is no fp16 number, but half of it plus half of it is 2049 in fp32.
    let wide = model.line("tensor<fp32, [3]>", &format!("cast(dtype = string(\"fp32\"), x = {read})"));
    let sum = model.line("tensor<fp32, [3]>", &format!("add(x = {wide}, y = fp32(0x1p+11))"));
    let less = model.line("tensor<fp32, [3]>", &format!("sub(x = {sum}, y = fp32(0x1p+11))"));
    let narrow = model.op(&[3], "cast", &format!("dtype = string(\"fp16\"), x = {less}"));
    model.effect(&format!(
        "tensor<fp16, [1]> first, tensor<fp16, [2]> others = split(axis = int32(0), split_sizes = {}, x = {narrow})",
        ints(&[1, 2])
    ));
    model.save(directory.path(), &["others".to_owned(), "first".to_owned()]);
    for executor in [Executor::Interpreter, Executor::Plan] {
        let shard = PortableDevice::new().with_executor(executor).load(directory.path()).unwrap();
        let signature = &shard.functions()[0].signature;
        let (mut inputs, mut outputs) = (signature.new_inputs(), signature.new_outputs());
        inputs[0].data_mut().copy_from_slice(&[1.0, 3.0, 5.0].map(f16::from_f32));
        let mut state = shard.new_state();
        for pass in 1u8..4 {
            shard.predict(0, &inputs, state.as_mut(), &mut outputs).unwrap();
            let scaled = |values: &[f32]| {
                values.iter().map(|v| f16::from_f32(v * f32::from(pass))).collect::<Vec<_>>()
            };
            assert_eq!(outputs[0].data(), scaled(&[3.0, 5.0]));
            assert_eq!(outputs[1].data(), scaled(&[1.0]));
            assert_eq!(state.read("count").unwrap(), scaled(&[1.0, 3.0, 5.0]));
        }
    }
}

/// What reads a state before it is overwritten keeps what it read.
#[test]
fn an_earlier_read_of_a_state_is_not_changed_by_a_later_write() {
    let directory = tempfile::tempdir().unwrap();
    let mut model = Model::new();
    model.state("s", &[2, 2]);
    let x = model.input("x", &[2, 2]);
    let before = model.op(&[2, 2], "read_state", "input = s");
    let row = model.op(
        &[1, 2],
        "slice_by_index",
        &format!("begin = {}, end = {}, x = {before}", ints(&[1, 0]), ints(&[2, 2])),
    );
    model.effect(&format!("write_state(data = {x}, input = s)[name = string(\"w\")]"));
    let after = model.op(&[2, 2], "read_state", "input = s");
    let both = model.op(
        &[3, 2],
        "concat",
        &format!("axis = int32(0), interleave = bool(false), values = ({row}, {after})"),
    );
    model.save(directory.path(), &[both, before]);
    for executor in [Executor::Interpreter, Executor::Plan] {
        let shard = PortableDevice::new().with_executor(executor).load(directory.path()).unwrap();
        let signature = &shard.functions()[0].signature;
        let (mut inputs, mut outputs) = (signature.new_inputs(), signature.new_outputs());
        inputs[0].data_mut().fill(f16::ONE);
        let mut state = shard.new_state();
        state.write("s", &[2.0, 3.0, 4.0, 5.0].map(f16::from_f32)).unwrap();
        shard.predict(0, &inputs, state.as_mut(), &mut outputs).unwrap();
        assert_eq!(outputs[0].data(), [4.0, 5.0, 1.0, 1.0, 1.0, 1.0].map(f16::from_f32));
        assert_eq!(outputs[1].data(), [2.0, 3.0, 4.0, 5.0].map(f16::from_f32));
    }
}
