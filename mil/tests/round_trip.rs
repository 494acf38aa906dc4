//! Whatever program there is, its text reads back as the same program.

use std::collections::BTreeMap;

use anepipe_mil::program::{
    Argument, Block, DataType, Dimension, Function, Literal, NamedType, Operation, Program, Value, ValueType,
};
use anepipe_mil::text::{self, Dialect};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

fn identifier() -> impl Strategy<Value = String> {
    prop_oneof!["[A-Za-z_][A-Za-z0-9_@]{0,6}", Just("tensor".to_owned()), Just("BLOBFILE".to_owned())]
}

fn data_type() -> impl Strategy<Value = DataType> {
    proptest::sample::select(DataType::all().collect::<Vec<_>>())
}

fn dimension() -> impl Strategy<Value = Dimension> {
    prop_oneof![
        4 => (0_u64..4).prop_map(Dimension::Fixed),
        1 => any::<u64>().prop_map(Dimension::Fixed),
        1 => any::<bool>().prop_map(|variadic| Dimension::Unknown { variadic }),
    ]
}

/// Any type a variable can have.
fn value_type() -> impl Strategy<Value = ValueType> {
    let tensor = (data_type(), vec(dimension(), 0..4));
    let tensor = tensor.prop_map(|(dtype, shape)| ValueType::Tensor { dtype, shape });
    containers(tensor.boxed(), true)
}

/// Any type whose values have a text form: no states, and shapes that a literal settles.
fn literal_type() -> impl Strategy<Value = ValueType> {
    let fixed = vec((0_u64..4).prop_map(Dimension::Fixed), 0..4);
    let ranged = vec((1_u64..3).prop_map(Dimension::Fixed), 1..4).prop_flat_map(|shape| {
        (Just(shape.clone()), 0..shape.len()).prop_map(|(mut shape, axis)| {
            shape[axis] = Dimension::Unknown { variadic: false };
            shape
        })
    });
    let tensor = (data_type(), prop_oneof![fixed, ranged]);
    let tensor = tensor.prop_map(|(dtype, shape)| ValueType::Tensor { dtype, shape });
    containers(tensor.boxed(), false)
}

fn containers(leaf: BoxedStrategy<ValueType>, states: bool) -> impl Strategy<Value = ValueType> {
    leaf.prop_recursive(3, 12, 3, move |inner| {
        let length =
            prop_oneof![(0_u64..3).prop_map(Dimension::Fixed), Just(Dimension::Unknown { variadic: false })];
        let list = (inner.clone(), length)
            .prop_map(|(element, length)| ValueType::List { element: Box::new(element), length });
        let tuple = vec(inner.clone(), 0..3).prop_map(ValueType::Tuple);
        let dictionary = (inner.clone(), inner.clone())
            .prop_map(|(key, value)| ValueType::Dictionary(Box::new(key), Box::new(value)));
        if states {
            let state = inner.prop_map(|inner| ValueType::State(Box::new(inner)));
            prop_oneof![list, tuple, dictionary, state].boxed()
        } else {
            prop_oneof![list, tuple, dictionary].boxed()
        }
    })
}

fn string() -> impl Strategy<Value = String> {
    let awkward = proptest::sample::select(vec!['"', '\\', '\n', '\r', '\t', '\0', '\u{7f}', 'é', '😀', '(']);
    vec(prop_oneof![awkward, any::<char>()], 0..5).prop_map(String::from_iter)
}

fn float() -> impl Strategy<Value = f64> {
    let bits = any::<u64>().prop_map(f64::from_bits);
    prop_oneof![bits, Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(-0.0), Just(f64::NAN)]
        .prop_map(|value| if value.is_nan() { f64::NAN } else { value })
}

fn literal(ty: &ValueType) -> BoxedStrategy<Literal> {
    let blob = (string(), any::<u64>()).prop_map(|(file, offset)| Literal::Blob { file, offset });
    let immediate = match ty {
        ValueType::Tensor { dtype, shape } => tensor(*dtype, shape),
        ValueType::List { element, length } => {
            let members = match length.fixed() {
                Some(length) => vec(value_of(element), length as usize).boxed(),
                None => vec(value_of(element), 0..3).boxed(),
            };
            members.prop_map(Literal::List).boxed()
        }
        ValueType::Tuple(types) => {
            types.iter().map(value_of).collect::<Vec<_>>().prop_map(Literal::Tuple).boxed()
        }
        ValueType::Dictionary(key, value) => {
            vec((value_of(key), value_of(value)), 0..3).prop_map(Literal::Dictionary).boxed()
        }
        ValueType::State(_) => unreachable!("states have no literals"),
    };
    prop_oneof![6 => immediate, 1 => blob].boxed()
}

fn tensor(dtype: DataType, shape: &[Dimension]) -> BoxedStrategy<Literal> {
    let known: u64 = shape.iter().filter_map(|extent| extent.fixed()).product();
    let unknown = shape.iter().any(|extent| extent.fixed().is_none());
    let count = if unknown { (0_u64..3).prop_map(move |n| n * known).boxed() } else { Just(known).boxed() };
    count
        .prop_flat_map(move |count| {
            let count = count as usize;
            match dtype {
                DataType::Bool => vec(any::<bool>(), count).prop_map(Literal::Bool).boxed(),
                DataType::String => vec(string(), count).prop_map(Literal::String).boxed(),
                DataType::UInt64 => vec(any::<i64>(), count).prop_map(Literal::Int).boxed(),
                _ if dtype.is_float() => vec(float(), count).prop_map(Literal::Float).boxed(),
                _ => {
                    let (low, high) = dtype.integer_range().unwrap();
                    vec(low as i64..=high as i64, count).prop_map(Literal::Int).boxed()
                }
            }
        })
        .boxed()
}

fn value_of(ty: &ValueType) -> BoxedStrategy<Value> {
    let ty = ty.clone();
    literal(&ty).prop_map(move |literal| Value { ty: ty.clone(), literal }).boxed()
}

fn value() -> impl Strategy<Value = Value> {
    literal_type().prop_flat_map(|ty| value_of(&ty))
}

fn named_type() -> impl Strategy<Value = NamedType> {
    (identifier(), value_type()).prop_map(|(name, ty)| NamedType { name, ty })
}

fn attributes() -> impl Strategy<Value = BTreeMap<String, Value>> {
    btree_map(identifier(), value(), 0..3)
}

fn operation() -> impl Strategy<Value = Operation> {
    let argument = || prop_oneof![identifier().prop_map(Argument::Name), value().prop_map(Argument::Value)];
    let parts = move || {
        let inputs = btree_map(identifier(), vec(argument(), 0..3), 0..3);
        (identifier(), inputs, vec(named_type(), 0..3), attributes())
    };
    let leaf = parts().prop_map(|(kind, inputs, outputs, attributes)| Operation {
        kind,
        inputs,
        outputs,
        attributes,
        blocks: Vec::new(),
    });
    leaf.prop_recursive(2, 6, 2, move |inner| {
        let block = (vec(named_type(), 0..2), vec(inner, 0..3), vec(identifier(), 0..3));
        let block = block.prop_map(|(inputs, operations, outputs)| Block {
            inputs,
            operations,
            outputs,
            attributes: BTreeMap::new(),
        });
        (parts(), vec(block, 0..3)).prop_map(|((kind, inputs, outputs, attributes), blocks)| Operation {
            kind,
            inputs,
            outputs,
            attributes,
            blocks,
        })
    })
}

fn function() -> impl Strategy<Value = Function> {
    let opset = proptest::sample::select(vec!["CoreML5", "CoreML6", "CoreML7", "CoreML8", "CoreML9"]);
    let body = (vec(operation(), 0..4), vec(identifier(), 0..3));
    (opset, vec(named_type(), 0..3), body, attributes()).prop_map(
        |(opset, mut inputs, (operations, outputs), attributes)| {
            inputs.sort_by(|a, b| a.name.cmp(&b.name));
            let block = Block { inputs: Vec::new(), operations, outputs, attributes: BTreeMap::new() };
            Function { opset: opset.to_owned(), inputs, block, attributes }
        },
    )
}

fn program() -> impl Strategy<Value = Program> {
    (btree_map(identifier(), function(), 0..3), attributes()).prop_map(|(functions, attributes)| Program {
        version: 1,
        functions,
        attributes,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    #[test]
    fn printing_and_parsing_gives_the_program_back(program in program(), new in any::<bool>()) {
        let dialect = if new { Dialect::V1_3 } else { Dialect::V1_0 };
        let text = text::print(&program, dialect).unwrap();
        let parsed = text::parse(&text).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")));
        let (found, parsed) = parsed?;
        prop_assert_eq!(found, dialect);
        prop_assert_eq!(&parsed, &program, "{}", text);
        prop_assert_eq!(text::print(&parsed, dialect).unwrap(), text);
    }
}
