//! What the portable device refuses, and what it says: at load where it can, and always by name.

mod fixture;

use anepipe_runtime::device::{Device, Shard};
use anepipe_runtime::error::RuntimeError;
use anepipe_runtime::portable::PortableDevice;
use anepipe_runtime::tensor::Tensor;
use fixture::Model;
use half::f16;

fn load(text: &str) -> Result<Box<dyn Shard>, RuntimeError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.mlmodelc");
    let mut model = Model::new();
    model.halves(&[2, 2, 1, 1], &[f16::ONE; 4]);
    model.save_text(&path, text);
    PortableDevice::new().load(&path)
}

/// A program whose function `main` takes x [1, 2, 4, 1] and holds `body`, which computes y.
fn program(body: &str) -> String {
    format!(
        "program(1.3)\n{{\n    func main<ios18>(tensor<fp16, [1, 2, 4, 1]> x) {{\n            {body}\n        }} -> (y);\n}}"
    )
}

fn message(text: &str) -> String {
    match load(text) {
        Ok(_) => panic!("loaded: {text}"),
        Err(error) => error.to_string(),
    }
}

const Y: &str = "tensor<fp16, [1, 2, 4, 1]> y";

/// Each row: the operations of a function, and what the refusal says.
#[test]
fn programs_that_do_not_fit_are_refused_by_name() {
    let weight = "const()[val = tensor<fp16, [2, 2, 1, 1]>(BLOBFILE(path = string(\"@model_path/weights/weight.bin\"), offset = uint64(64)))]";
    let table = [
        (
            format!("{Y} = cumsum(axis = int32(0), x = x);"),
            "function `main`: the operation `cumsum` that computes `y` is not one the portable device has",
        ),
        (
            format!("{Y} = add(x = x, y = z);"),
            "operation `add` computing `y`: `z` is not defined before it is used",
        ),
        (format!("{Y} = add(x = x);"), "`y` is missing"),
        (
            format!("{Y} = add(x = x, y = tensor<fp16, [3, 1, 1]>([[[0x0p+0]], [[0x0p+0]], [[0x0p+0]]]));"),
            "do not broadcast",
        ),
        (format!("{Y} = add(x = x, y = fp32(0x1p+0));"), "fp16 and fp32 operands are mixed"),
        (format!("{Y} = add(x = x, y = int32(1));"), "only fp16 and fp32 are computed with"),
        (
            "tensor<fp16, [8]> y = exp(x = x);".to_owned(),
            "the program says the result is tensor<fp16, [8]>; it is fp16 [1, 2, 4, 1]",
        ),
        (
            "tensor<fp16, [7]> y = reshape(shape = tensor<int32, [1]>([7]), x = x);".to_owned(),
            "different numbers of elements",
        ),
        (format!("{Y} = softmax(axis = int32(4), x = x);"), "axis 4 is outside rank 4"),
        (format!("{Y} = softmax(axis = x, x = x);"), "`axis` = `x` has to be a constant"),
        (format!("{Y} = transpose(perm = tensor<int32, [4]>([0, 1, 1, 3]), x = x);"), "no permutation"),
        (format!("{Y} = gelu(mode = string(\"EXACT\"), x = x);"), "mode EXACT is not supported"),
        (format!("{Y} = conv(weight = x, x = x);"), "its weights `x` have to be constant"),
        (
            format!(
                "tensor<fp16, [2, 2, 1, 1]> w = {weight};\n{Y} = conv(strides = tensor<int32, [2]>([2, 1]), weight = w, x = x);"
            ),
            "only 1x1 convolutions of stride 1",
        ),
        (format!("{Y} = conv(weight = w, x = x);"), "`w` is not defined"),
        (
            "tensor<fp32, [1, 2, 4, 1]> y = cast(dtype = string(\"fp32\"), x = x);".to_owned(),
            "output `y`: it is fp32",
        ),
        ("tensor<fp16, [1]> z = identity(x = x);".to_owned(), "different numbers of elements"),
        (format!("{Y} = read_state(input = x);"), "`input` has to be a state"),
    ];
    for (body, expected) in table {
        let message = message(&program(&body));
        assert!(message.contains(expected), "{body}\n  says: {message}\n  not:  {expected}");
        assert!(message.contains("model.mlmodelc"), "{message}");
    }
}

#[test]
fn ports_are_fixed_fp16_tensors() {
    let table = [
        ("tensor<fp32, [1]> x", "input `x`: it is fp32; only fp16 crosses the border"),
        ("tensor<int32, [1]> x", "input `x`: it is int32"),
        ("tensor<fp16, [1, ?]> x", "input `x`: its shape is flexible"),
        ("tensor<fp16, [1099511627776, 1048576, 9]> x", "has more than"),
        ("state<tensor<fp32, [1]>> x", "state `x`: it is fp32"),
    ];
    for (parameter, expected) in table {
        let text = format!("program(1.3)\n{{\n    func main<ios18>({parameter}) {{\n        }} -> (x);\n}}");
        let message = message(&text);
        assert!(message.contains(expected), "{parameter}\n  says: {message}");
    }
}

/// A program whose functions have the states given, if any, and copy x [1].
fn functions(functions: &[(&str, &str)]) -> String {
    let function = |(name, states): &(&str, &str)| {
        format!(
            "    func {name}<ios18>({states}tensor<fp16, [1]> x) {{\n            tensor<fp16, [1]> y = abs(x = x);\n        }} -> (y);\n"
        )
    };
    format!("program(1.3)\n{{\n{}}}", functions.iter().map(function).collect::<String>())
}

#[test]
fn every_function_is_loaded_and_found_by_its_name() {
    let shard = load(&functions(&[("t4", ""), ("t1", "")])).unwrap();
    let names: Vec<&str> = shard.functions().iter().map(|function| function.name.as_str()).collect();
    assert_eq!(names, ["t1", "t4"]);
    assert_eq!(shard.find("t4").unwrap(), 1);
    let error = shard.find("main").unwrap_err().to_string();
    assert!(error.contains("there is no `main`, it has `t1`, `t4`"), "{error}");
}

#[test]
fn functions_must_have_the_same_states() {
    let state = "state<tensor<fp16, [2]>> s, ";
    assert!(load(&functions(&[("t1", state), ("t4", state)])).is_ok());
    for other in ["", "state<tensor<fp16, [3]>> s, ", "state<tensor<fp16, [2]>> r, "] {
        let error = load(&functions(&[("t1", state), ("t4", other)])).err().unwrap().to_string();
        assert!(error.contains("function `t4`: its states are not those of function `t1`"), "{error}");
    }
    assert!(load("program(1.3)\n{\n}").err().unwrap().to_string().contains("no function"));
}

#[test]
fn what_is_no_model_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let error = PortableDevice::new().load(directory.path()).err().unwrap();
    assert!(error.to_string().contains("there is no model.mil here"), "{error}");
    assert!(PortableDevice::new().load(&directory.path().join("absent")).is_err());
}

#[test]
fn tensors_and_states_must_be_the_shards_own() {
    let text = "program(1.3)\n{\n    func main<ios18>(state<tensor<fp16, [2]>> s, tensor<fp16, [2]> x) {\n            \
                tensor<fp16, [2]> y = abs(x = x);\n        } -> (y);\n}";
    let (shard, other) = (load(text).unwrap(), load(text).unwrap());
    let signature = &shard.functions()[0].signature;
    let (inputs, mut outputs) = (signature.new_inputs(), signature.new_outputs());
    let mut state = shard.new_state();
    let refused = |result: Result<(), RuntimeError>, expected: &str| match result {
        Err(RuntimeError::Mismatch(message)) => assert!(message.contains(expected), "{message}"),
        other => panic!("{other:?} in place of: {expected}"),
    };
    refused(shard.predict(0, &inputs, other.new_state().as_mut(), &mut outputs), "made by another shard");
    refused(shard.predict(0, &[], state.as_mut(), &mut outputs), "it has 1 inputs, 0 tensors were given");
    refused(shard.predict(0, &inputs, state.as_mut(), &mut []), "it has 1 outputs, 0 tensors were given");
    refused(
        shard.predict(7, &inputs, state.as_mut(), &mut outputs),
        "it has 1 functions, number 7 was asked",
    );
    let wrong = [Tensor::zeros(&[1, 2])];
    refused(
        shard.predict(0, &wrong, state.as_mut(), &mut outputs),
        "input `x` has the shape [2], the tensor given [1, 2]",
    );
    refused(state.write("s", &[f16::ONE]), "state `s` has 2 elements, 1 were given");
    refused(state.read("t").map(|_| ()), "there is no state `t`; there are: s");
    assert!(shard.predict(0, &inputs, state.as_mut(), &mut outputs).is_ok());
}
