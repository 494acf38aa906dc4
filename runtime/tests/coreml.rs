//! The Core ML device over an engine that keeps Core ML's rules: functions are loaded one by one, each makes its own states, and
//! buffers have gaps. Whatever the order of widths, what comes out has to be what the portable device gives, bit for bit.

mod engine;
mod fixture;
mod whole;

use std::path::Path;
use std::sync::Arc;

use anepipe_runtime::coreml::{CoreMlDevice, interface};
use anepipe_runtime::device::{Device, Shard};
use anepipe_runtime::error::RuntimeError;
use anepipe_runtime::portable::PortableDevice;
use anepipe_runtime::session::Session;
use engine::{Calls, Refusal, Rules};
use fixture::layer;
use fixture::random::Random;
use half::f16;
use proptest::prelude::*;
use whole::{CONTEXT, bits, one_by_one, prompt, write};

fn device(refusal: Refusal) -> (CoreMlDevice<Rules>, Calls) {
    let (rules, calls) = Rules::new(refusal);
    (CoreMlDevice::new(rules), calls)
}

fn taken(calls: &Calls) -> Vec<String> {
    std::mem::take(&mut calls.lock().unwrap())
}

/// One layer with functions of these names and widths.
fn shard(device: &dyn Device, functions: &[(&str, usize)]) -> Result<Box<dyn Shard>, RuntimeError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layers.mlmodelc");
    let small = layer::Shard {
        hidden: 32,
        heads: 4,
        kv_heads: 2,
        head_dim: 8,
        ffn: 48,
        rope: 6,
        context: 12,
        ..layer::PHI_4_MINI
    };
    small.save_widths(&path, 3, functions, false);
    device.load(&path)
}

const WIDTHS: [(&str, usize); 3] = [("t1", 1), ("t2", 2), ("t4", 4)];

/// One pass of random inputs, the same for equal seeds.
fn pass(
    shard: &dyn Shard,
    function: usize,
    state: &mut dyn anepipe_runtime::device::State,
    seed: u64,
) -> Vec<u16> {
    let signature = &shard.functions()[function].signature;
    let (mut inputs, mut outputs) = (signature.new_inputs(), signature.new_outputs());
    let mut random = Random(seed);
    for tensor in &mut inputs {
        tensor.data_mut().fill_with(|| f16::from_f32(random.unit()));
    }
    shard.predict(function, &inputs, state, &mut outputs).unwrap();
    outputs.iter().flat_map(|output| bits(output.data())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Passes of any widths in any order, with reads and writes between them.
    #[test]
    fn states_follow_whichever_function_runs(steps in prop::collection::vec((0..3usize, any::<u64>()), 1..10)) {
        let (device, _) = device(Refusal::None);
        let (ours, theirs) = (shard(&device, &WIDTHS).unwrap(), shard(&PortableDevice::new(), &WIDTHS).unwrap());
        let (mut our_state, mut their_state) = (ours.new_state(), theirs.new_state());
        for (function, seed) in steps {
            let found = pass(&*ours, function, our_state.as_mut(), seed);
            prop_assert_eq!(found, pass(&*theirs, function, their_state.as_mut(), seed));
            for port in &theirs.functions()[0].signature.states {
                let mut values = their_state.read(&port.name).unwrap();
                prop_assert_eq!(bits(&our_state.read(&port.name).unwrap()), bits(&values));
                if seed % 3 == 0 {
                    values.iter_mut().step_by(5).for_each(|value| *value = f16::from_f32(0.25));
                    our_state.write(&port.name, &values).unwrap();
                    their_state.write(&port.name, &values).unwrap();
                }
            }
        }
    }
}

/// The same once more with an engine whose buffers forget what is written to them: a copy that is not done is seen.
#[test]
fn a_state_that_is_not_handed_over_shows() {
    let (device, _) = device(Refusal::Forgetful);
    let (ours, theirs) = (shard(&device, &WIDTHS).unwrap(), shard(&PortableDevice::new(), &WIDTHS).unwrap());
    let (mut our_state, mut their_state) = (ours.new_state(), theirs.new_state());
    let differs: Vec<bool> = [(0, 1), (0, 2), (2, 3)]
        .into_iter()
        .map(|(function, seed)| {
            let found = pass(&*ours, function, our_state.as_mut(), seed);
            found != pass(&*theirs, function, their_state.as_mut(), seed)
        })
        .collect();
    assert_eq!(differs, [false, false, true]);
}

#[test]
fn a_session_that_changes_widths_gives_the_logits_of_the_portable_device() {
    let tokens = prompt(4, CONTEXT as usize);
    let folder = tempfile::tempdir().unwrap();
    let parts = write(folder.path(), 8, &[1, 2, 4, 8], 4);
    let portable = Arc::new(anepipe_runtime::session::Model::open(&parts, &PortableDevice::new()).unwrap());
    let (device, calls) = device(Refusal::None);
    let ours = Arc::new(anepipe_runtime::session::Model::open(&parts, &device).unwrap());
    assert_eq!(ours.device(), "coreml");
    let expected = one_by_one(&portable, &tokens);
    let mut session = Session::new(&ours).unwrap();
    let mut rest = tokens.as_slice();
    for count in [8, 1, 1, 4, 2, 1, 8, 3, 1, 5, 6].into_iter().cycle() {
        let (piece, later) = rest.split_at(count.min(rest.len()));
        if piece.is_empty() {
            break;
        }
        let position = session.position();
        session.pass(piece).unwrap();
        for slot in 0..piece.len() {
            assert_eq!(
                bits(session.logits(slot).unwrap()),
                expected[position + slot],
                "position {position}, slot {slot}"
            );
        }
        session.commit(piece.len()).unwrap();
        rest = later;
    }
    // Heads have no states, so nothing is copied for them.
    let calls = taken(&calls);
    assert!(calls.iter().any(|call| call.starts_with("look")), "the layers changed functions");
}

#[test]
fn nothing_is_copied_as_long_as_one_function_runs_and_each_state_once_when_it_changes() {
    let (device, calls) = device(Refusal::None);
    let shard = shard(&device, &WIDTHS).unwrap();
    assert_eq!(taken(&calls), ["load t1", "load t2", "load t4"]);
    let mut state = shard.new_state();
    for (function, expected) in [
        (2, &["predict 2"][..]),
        (2, &["predict 2"]),
        (0, &["look 2 k", "change 0 k", "look 2 v", "change 0 v", "predict 0"]),
        (0, &["predict 0"]),
        (2, &["look 0 k", "change 2 k", "look 0 v", "change 2 v", "predict 2"]),
    ] {
        pass(&*shard, function, state.as_mut(), 1);
        let names: Vec<String> = taken(&calls)
            .iter()
            .map(|call| {
                let states = &shard.functions()[0].signature.states;
                call.replace(&states[0].name, "k").replace(&states[1].name, "v")
            })
            .collect();
        assert_eq!(names, expected);
    }
}

#[test]
fn the_only_function_is_loaded_without_its_name() {
    let (device, calls) = device(Refusal::None);
    shard(&device, &[("main", 4)]).unwrap();
    assert_eq!(taken(&calls), ["load -"]);
}

#[test]
fn a_state_starts_with_zeros_and_can_be_written_before_anything_runs() {
    let (device, calls) = device(Refusal::None);
    let shard = shard(&device, &WIDTHS).unwrap();
    let port = shard.functions()[0].signature.states[0].clone();
    let mut state = shard.new_state();
    taken(&calls);
    assert!(state.read(&port.name).unwrap().iter().all(|value| value.to_bits() == 0));
    assert_eq!(taken(&calls), [""; 0], "no buffer is made to say that all is zero");
    let values: Vec<f16> = (0..port.elements()).map(|index| f16::from_f32(index as f32)).collect();
    state.write(&port.name, &values).unwrap();
    assert_eq!(state.read(&port.name).unwrap(), values);

    for (error, expected) in [
        (state.read("k_7").unwrap_err(), "there is no state `k_7`"),
        (state.write("k_7", &values).unwrap_err(), "there is no state `k_7`"),
        (state.write(&port.name, &values[1..]).unwrap_err(), "elements"),
    ] {
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn what_does_not_fit_a_shard_is_refused_before_core_ml_sees_it() {
    let (device, calls) = device(Refusal::None);
    let (one, other) = (shard(&device, &WIDTHS).unwrap(), shard(&device, &WIDTHS).unwrap());
    taken(&calls);
    let signature = &one.functions()[0].signature;
    let (inputs, mut outputs) = (signature.new_inputs(), signature.new_outputs());
    let mut state = one.new_state();
    let mut run = |shard: &dyn Shard, function, inputs| {
        shard.predict(function, inputs, state.as_mut(), &mut outputs).unwrap_err().to_string()
    };
    assert!(run(&*other, 0, &inputs).contains("the state was made by another shard"));
    assert!(run(&*one, 3, &inputs).contains("it has 3 functions, number 3 was asked for"));
    assert!(run(&*one, 1, &inputs).contains("has the shape"));
    assert!(run(&*one, 0, &inputs[1..]).contains("4 tensors were given"));
    assert_eq!(taken(&calls), [""; 0]);
}

/// Each row: what Core ML refuses, and what the error says.
#[test]
fn refusals_name_what_was_done_with_which_function_of_which_shard_and_what_to_do() {
    let (refusing, _) = device(Refusal::Load);
    let error = shard(&refusing, &WIDTHS).err().unwrap().to_string();
    for part in ["loading function `t2` of the shard", "layers.mlmodelc on Core ML: ", "-14", "--topology"] {
        assert!(error.contains(part), "{error}");
    }
    for (refusal, expected) in [
        (Refusal::State, ["running function `t1` of the shard", "Failed to allocate", "--context"]),
        (Refusal::Predict, ["running function `t1` of the shard", "Something happened", "device `portable`"]),
    ] {
        let (device, _) = device(refusal);
        let shard = shard(&device, &WIDTHS).unwrap();
        let signature = &shard.functions()[0].signature;
        let (inputs, mut outputs) = (signature.new_inputs(), signature.new_outputs());
        let error =
            shard.predict(0, &inputs, shard.new_state().as_mut(), &mut outputs).unwrap_err().to_string();
        for part in expected {
            assert!(error.contains(part), "{error}");
        }
    }
    let (device, _) = device(Refusal::ShortBuffers);
    let shard = shard(&device, &WIDTHS).unwrap();
    let mut state = shard.new_state();
    pass(&*shard, 0, state.as_mut(), 1);
    let name = &shard.functions()[0].signature.states[0].name;
    let error = state.read(name).unwrap_err().to_string();
    let parts =
        [&format!("reading the state `{name}` of the shard"), "its memory has", "build the bundle again"];
    for part in parts {
        assert!(error.contains(part), "{error}");
    }
    let signature = &shard.functions()[1].signature;
    let (inputs, mut outputs) = (signature.new_inputs(), signature.new_outputs());
    assert!(shard.predict(1, &inputs, state.as_mut(), &mut outputs).is_err(), "a switch copies");
}

#[test]
fn loads_and_first_passes_are_timed_by_function() {
    let (device, _) = device(Refusal::None);
    let shard = shard(&device, &WIDTHS).unwrap();
    let mut state = shard.new_state();
    pass(&*shard, 1, state.as_mut(), 1);
    let first = device.load_times();
    let names: Vec<&str> = first.iter().map(|time| time.function.as_str()).collect();
    assert_eq!(names, ["t1", "t2", "t4"]);
    assert!(first.iter().all(|time| time.shard.ends_with("layers.mlmodelc")));
    assert_eq!(first.iter().map(|time| time.first_pass.is_some()).collect::<Vec<_>>(), [false, true, false]);
    pass(&*shard, 1, state.as_mut(), 2);
    assert_eq!(device.load_times(), first, "a later pass is not a first one");
}

fn interface_of(text: &str) -> Result<Vec<anepipe_runtime::device::Function>, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.mlmodelc");
    fixture::Model::new().save_text(&path, text);
    interface::read(&path).map_err(|error| error.to_string())
}

#[test]
fn interfaces_are_those_that_the_portable_device_reads() {
    let folder = tempfile::tempdir().unwrap();
    let parts = write(folder.path(), 8, &[1, 2, 4, 8], 4);
    let heads = parts.heads.iter().map(|head| &head.path);
    for path in parts.layers.iter().chain(heads) {
        let portable = PortableDevice::new().load(path).unwrap();
        assert_eq!(interface::read(path).unwrap(), portable.functions());
    }
}

#[test]
fn an_operation_that_the_portable_device_lacks_is_no_obstacle() {
    let functions = interface_of(
        "program(1.3) { func main<ios18>(tensor<fp16, [2, 3]> x) {
            tensor<fp16, [2, 3]> y = cumsum(axis = int32(0), x = x)[name = string(\"y\")];
        } -> (y, x); }",
    )
    .unwrap();
    let names: Vec<_> = functions[0].signature.outputs.iter().map(|port| port.name.as_str()).collect();
    assert_eq!(names, ["y", "x"]);
}

/// Each row: a program, and why it cannot be asked of Core ML through tensors of fixed shape.
#[test]
fn ports_that_no_tensor_fits_are_refused_by_name() {
    let main = |parameters: &str, result: &str| {
        format!("program(1.3) {{ func main<ios18>({parameters}) {{ }} -> ({result}); }}")
    };
    let x = "tensor<fp16, [2]> x";
    for (text, expected) in [
        (main("tensor<fp32, [2]> x", "x"), "function `main`, input `x`: it is tensor<fp32, [2]>; only fp16"),
        (main("tensor<fp16, [?]> x", "x"), "its shape must be fixed"),
        (main(&format!("{x}, state<tensor<fp32, [2]>> k"), "x"), "state `k`"),
        (main(x, "y"), "output `y`: no operation gives it"),
        (main("tensor<fp16, [4294967296, 4294967296, 2]> x", "x"), "its shape must be fixed"),
        ("program(1.3) { }".to_owned(), "its program has no function"),
        (
            format!(
                "program(1.3) {{ func a<ios18>({x}, state<tensor<fp16, [2]>> k) {{ }} -> (x); func b<ios18>({x}) {{ }} -> (x); }}"
            ),
            "its states are not those of function `a`",
        ),
    ] {
        let error = interface_of(&text).expect_err(expected);
        assert!(error.contains(expected), "{error}\nnot: {expected}");
    }
    assert!(interface::read(Path::new("absent.mlmodelc")).is_err());
}
