//! The states of one function in one conversation, and the arrays of its passes.

use std::cell::RefCell;
use std::ptr::NonNull;

use block2::StackBlock;
use objc2::AnyThread as _;
use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::{AnyObject, ProtocolObject};
use objc2_core_ml::{
    MLDictionaryFeatureProvider, MLFeatureProvider, MLFeatureValue, MLMultiArray, MLPredictionOptions,
    MLState,
};
use objc2_foundation::{NSDictionary, NSString};

use super::array::Array;
use super::function::AppleFunction;
use super::report::reported;
use crate::coreml::failure::Failure;
use crate::device::Port;
use crate::tensor::Tensor;

/// A state (`MLState`) of one function, with everything that its passes need made once: the arrays of its inputs and outputs, the
/// provider that names the inputs, and the options that name the outputs' arrays.
pub struct AppleState {
    state: Retained<MLState>,
    inputs: Vec<Array>,
    provider: Retained<ProtocolObject<dyn MLFeatureProvider>>,
    outputs: Vec<(Retained<NSString>, Array)>,
    options: Retained<MLPredictionOptions>,
}

// SAFETY: provider and options are made here and given to predictions of this state alone, which need `&mut`; neither has ties to the
// thread that made it. `MLState` and the arrays may move by themselves.
unsafe impl Send for AppleState {}

impl AppleState {
    pub(super) fn new(function: &AppleFunction) -> Result<Self, Failure> {
        let signature = function.signature();
        let arrays = |ports: &[Port]| ports.iter().map(Array::new).collect::<Result<Vec<_>, _>>();
        autoreleasepool(|_| {
            let (inputs, outputs) = (arrays(&signature.inputs)?, arrays(&signature.outputs)?);
            // SAFETY: a model without states gives an empty state, with which predictions are without states.
            let state = function.with(|model| unsafe { model.newState() });
            let provider = provider(&signature.inputs, &inputs)?;
            // SAFETY: a new object.
            let options = unsafe { MLPredictionOptions::new() };
            let backings =
                dictionary(&signature.outputs, outputs.iter().map(|output| (**output.array()).as_ref()));
            // SAFETY: the values are multi arrays, as backings of multi arrays have to be.
            unsafe { options.setOutputBackings(&backings) };
            let names = signature.outputs.iter().map(|port| NSString::from_str(&port.name));
            Ok(Self { state, inputs, provider, outputs: names.zip(outputs).collect(), options })
        })
    }

    /// Runs `function`, which made this state, once.
    pub(super) fn predict(
        &mut self,
        function: &AppleFunction,
        inputs: &[Tensor],
        outputs: &mut [Tensor],
    ) -> Result<(), Failure> {
        for (array, tensor) in self.inputs.iter_mut().zip(inputs) {
            array.write(tensor.data());
        }
        // What Core ML makes in a pass goes with it.
        autoreleasepool(|_| {
            // SAFETY: the function made the state, and the features are of its signature; predictions with one state are one at a
            // time, because this one is borrowed for writing.
            let given = function.with(|model| unsafe {
                model.predictionFromFeatures_usingState_options_error(
                    &self.provider,
                    &self.state,
                    &self.options,
                )
            });
            let given = given.map_err(|error| reported(&error))?;
            let ports = &function.signature().outputs;
            for (((name, backing), port), tensor) in self.outputs.iter().zip(ports).zip(outputs) {
                // SAFETY: plain lookups.
                let array =
                    unsafe { given.featureValueForName(name).and_then(|value| value.multiArrayValue()) };
                let missing = || Failure::Missing { what: "output", name: port.name.clone() };
                backing.read_given(&array.ok_or_else(missing)?, &port.name, tensor.data_mut())?;
            }
            Ok(())
        })
    }

    /// Shows the array that is the buffer of the state `name`.
    pub(super) fn look(
        &self,
        name: &str,
        look: &mut dyn FnMut(&MLMultiArray) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let result = RefCell::new(Err(Failure::Missing { what: "state", name: name.to_owned() }));
        let look = RefCell::new(look);
        let handler = StackBlock::new(|array: NonNull<MLMultiArray>| {
            // SAFETY: Core ML gives an array, for as long as this runs.
            let array = unsafe { array.as_ref() };
            if let (Ok(mut look), Ok(mut result)) = (look.try_borrow_mut(), result.try_borrow_mut()) {
                *result = look(array);
            }
        });
        autoreleasepool(|_| {
            // SAFETY: no prediction is at work on this state, because it is borrowed; the handler is called before this returns,
            // and not kept. The name is one of the model's: the interface was read from its program.
            unsafe { self.state.getMultiArrayForStateNamed_handler(&NSString::from_str(name), &handler) };
        });
        result.into_inner()
    }
}

/// Names the arrays `inputs` for Core ML. It refers to them: what is written to them later is what a prediction sees.
fn provider(
    ports: &[Port],
    inputs: &[Array],
) -> Result<Retained<ProtocolObject<dyn MLFeatureProvider>>, Failure> {
    // SAFETY: a feature value refers to the array.
    let value = |input: &Array| unsafe { MLFeatureValue::featureValueWithMultiArray(input.array()) };
    let values: Vec<_> = inputs.iter().map(value).collect();
    let values = dictionary(ports, values.iter().map(|value| (**value).as_ref()));
    // SAFETY: keys are strings, and values are feature values.
    let provider = unsafe {
        MLDictionaryFeatureProvider::initWithDictionary_error(MLDictionaryFeatureProvider::alloc(), &values)
    };
    Ok(ProtocolObject::from_retained(provider.map_err(|error| reported(&error))?))
}

/// Objects by the names of `ports`.
fn dictionary<'a>(
    ports: &[Port],
    objects: impl Iterator<Item = &'a AnyObject>,
) -> Retained<NSDictionary<NSString, AnyObject>> {
    let names: Vec<_> = ports.iter().map(|port| NSString::from_str(&port.name)).collect();
    let names: Vec<&NSString> = names.iter().map(|name| &**name).collect();
    let objects: Vec<&AnyObject> = objects.collect();
    NSDictionary::from_slices(&names, &objects)
}
