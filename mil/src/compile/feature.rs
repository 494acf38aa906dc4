//! Features (inputs, outputs, states) as `metadata.json` describes them: objects of strings.
//!
//! Seen in Apple's output: arrays, fixed and with ranges of sizes. Not seen there by the authors of this crate, and
//! written from the forms known elsewhere: states, images, and a classifier's labels and probabilities.

use std::collections::BTreeMap;

use coreml_proto::proto as pb;
use pb::array_feature_type::{ArrayDataType, ShapeFlexibility};
use pb::dictionary_feature_type::KeyType;
use pb::feature_type::Type;
use pb::image_feature_type::ColorSpace;

use super::UnsupportedFeature;

/// One feature; every value is a string, numbers and truth values too.
pub(super) type Feature = BTreeMap<&'static str, String>;

/// Describes `features` in their order.
pub(super) fn describe_all(features: &[pb::FeatureDescription]) -> Result<Vec<Feature>, UnsupportedFeature> {
    features.iter().map(describe).collect()
}

fn describe(feature: &pb::FeatureDescription) -> Result<Feature, UnsupportedFeature> {
    let unsupported = |what| UnsupportedFeature { name: feature.name.clone(), what };
    let ty = feature.r#type.as_ref().ok_or_else(|| unsupported("no type"))?;
    let mut fields = match ty.r#type.as_ref().ok_or_else(|| unsupported("no type"))? {
        Type::MultiArrayType(array) => {
            let mut fields = array_fields("MultiArray", array).map_err(unsupported)?;
            let flexible = array.shape_flexibility.is_some();
            fields.insert("hasShapeFlexibility", flag(flexible));
            if let Some(ranges) = size_ranges(array).map_err(unsupported)? {
                let pairs: Vec<_> = ranges.iter().map(|(low, high)| format!("[{low}, {high}]")).collect();
                fields.insert("shapeRange", format!("[{}]", pairs.join(", ")));
                let spans = ranges
                    .iter()
                    .map(|(low, high)| if low == high { low.to_string() } else { format!("{low}...{high}") });
                fields.insert("shapeFlexibility", spans.collect::<Vec<_>>().join(" × "));
            }
            fields
        }
        Type::StateType(state) => match &state.r#type {
            Some(pb::state_feature_type::Type::ArrayType(array)) => {
                array_fields("State", array).map_err(unsupported)?
            }
            None => return Err(unsupported("a state without a type")),
        },
        Type::ImageType(image) => image_fields(image).map_err(unsupported)?,
        Type::StringType(_) => plain_fields("String", "String".to_owned()),
        Type::Int64Type(_) => plain_fields("Int64", "Int64".to_owned()),
        Type::DoubleType(_) => plain_fields("Double", "Double".to_owned()),
        Type::DictionaryType(dictionary) => {
            let key = match dictionary.key_type {
                Some(KeyType::Int64KeyType(_)) => "Int64",
                Some(KeyType::StringKeyType(_)) => "String",
                None => return Err(unsupported("a dictionary without a key type")),
            };
            let mut fields = plain_fields("Dictionary", format!("Dictionary ({key} → Double)"));
            fields.insert("keyType", key.to_owned());
            fields
        }
        Type::SequenceType(_) => return Err(unsupported("a sequence, which an ML Program cannot have")),
    };
    fields.insert("name", feature.name.clone());
    fields.insert("shortDescription", feature.short_description.clone());
    fields.insert("isOptional", flag(ty.is_optional));
    Ok(fields)
}

/// The bounds of every extent, if the array's shape is a range; each is at most the largest extent an array can have.
pub(super) fn size_ranges(array: &pb::ArrayFeatureType) -> Result<Option<Vec<(u64, u64)>>, &'static str> {
    let bounds = |range: &pb::SizeRange| {
        let high = u64::try_from(range.upper_bound).map_err(|_| "an extent without upper bound")?;
        if range.lower_bound > high {
            Err("an extent whose bounds are swapped")
        } else {
            Ok((range.lower_bound, high))
        }
    };
    match &array.shape_flexibility {
        None => Ok(None),
        Some(ShapeFlexibility::EnumeratedShapes(_)) => Err("enumerated shapes"),
        Some(ShapeFlexibility::ShapeRange(range)) => {
            range.size_ranges.iter().map(bounds).collect::<Result<_, _>>().map(Some)
        }
    }
}

/// The array's own shape, or the smallest of its range.
pub(super) fn default_shape(array: &pb::ArrayFeatureType) -> Vec<i64> {
    match &array.shape_flexibility {
        Some(ShapeFlexibility::ShapeRange(range)) if array.shape.is_empty() => {
            range.size_ranges.iter().map(|range| range.lower_bound.cast_signed()).collect()
        }
        _ => array.shape.clone(),
    }
}

fn array_fields(kind: &str, array: &pb::ArrayFeatureType) -> Result<Feature, &'static str> {
    let element = match ArrayDataType::try_from(array.data_type) {
        Ok(ArrayDataType::Float16) => "Float16",
        Ok(ArrayDataType::Float32) => "Float32",
        Ok(ArrayDataType::Double) => "Double",
        Ok(ArrayDataType::Int32) => "Int32",
        Ok(ArrayDataType::Int8) => "Int8",
        Ok(ArrayDataType::InvalidArrayDataType) | Err(_) => return Err("an array of unknown element type"),
    };
    let extents: Vec<_> = default_shape(array).iter().map(i64::to_string).collect();
    let space = if extents.is_empty() { "" } else { " " };
    let mut fields = plain_fields(kind, format!("{kind} ({element}{space}{})", extents.join(" × ")));
    fields.insert("dataType", element.to_owned());
    fields.insert("shape", format!("[{}]", extents.join(", ")));
    Ok(fields)
}

fn image_fields(image: &pb::ImageFeatureType) -> Result<Feature, &'static str> {
    if image.size_flexibility.is_some() {
        return Err("an image of flexible size");
    }
    let (title, space, color) = match ColorSpace::try_from(image.color_space) {
        Ok(ColorSpace::Grayscale) => ("Grayscale", "Grayscale", false),
        Ok(ColorSpace::Rgb) => ("Color", "RGB", true),
        Ok(ColorSpace::Bgr) => ("Color", "BGR", true),
        Ok(ColorSpace::GrayscaleFloat16) => ("Grayscale16Half", "Grayscale16Half", false),
        Ok(ColorSpace::InvalidColorSpace) | Err(_) => return Err("an image of unknown color space"),
    };
    let (width, height) = (image.width, image.height);
    let mut fields = plain_fields("Image", format!("Image ({title} {width} × {height})"));
    fields.insert("width", width.to_string());
    fields.insert("height", height.to_string());
    fields.insert("colorspace", space.to_owned());
    fields.insert("isColor", flag(color));
    fields.insert("hasSizeFlexibility", flag(false));
    Ok(fields)
}

fn plain_fields(kind: &str, formatted: String) -> Feature {
    BTreeMap::from([("type", kind.to_owned()), ("formattedType", formatted)])
}

fn flag(set: bool) -> String {
    if set { "1" } else { "0" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feature(ty: Type) -> pb::FeatureDescription {
        let ty = pb::FeatureType { is_optional: false, r#type: Some(ty) };
        pb::FeatureDescription { name: "f".to_owned(), short_description: String::new(), r#type: Some(ty) }
    }

    fn array(shape: &[i64], flexibility: Option<ShapeFlexibility>) -> pb::ArrayFeatureType {
        pb::ArrayFeatureType {
            shape: shape.to_vec(),
            data_type: ArrayDataType::Float16.into(),
            shape_flexibility: flexibility,
            default_optional_value: None,
        }
    }

    #[test]
    fn every_kind_of_feature_is_put_into_words() {
        let state = pb::state_feature_type::Type::ArrayType(array(&[1, 8], None));
        let image = |color_space: ColorSpace| pb::ImageFeatureType {
            width: 28,
            height: 14,
            color_space: color_space.into(),
            size_flexibility: None,
        };
        let string_key = KeyType::StringKeyType(pb::StringFeatureType::default());
        let bounds =
            [(1, 1), (2, 8)].map(|(lower_bound, upper_bound)| pb::SizeRange { lower_bound, upper_bound });
        let range = pb::array_feature_type::ShapeRange { size_ranges: bounds.to_vec() };
        let range = Some(ShapeFlexibility::ShapeRange(range));
        let table = [
            (Type::MultiArrayType(array(&[], None)), "MultiArray (Float16)"),
            (Type::MultiArrayType(array(&[1, 8], None)), "MultiArray (Float16 1 × 8)"),
            (Type::MultiArrayType(array(&[], range)), "MultiArray (Float16 1 × 2)"),
            (Type::StateType(pb::StateFeatureType { r#type: Some(state) }), "State (Float16 1 × 8)"),
            (Type::ImageType(image(ColorSpace::Rgb)), "Image (Color 28 × 14)"),
            (Type::ImageType(image(ColorSpace::Grayscale)), "Image (Grayscale 28 × 14)"),
            (Type::StringType(pb::StringFeatureType::default()), "String"),
            (Type::Int64Type(pb::Int64FeatureType::default()), "Int64"),
            (Type::DoubleType(pb::DoubleFeatureType::default()), "Double"),
            (
                Type::DictionaryType(pb::DictionaryFeatureType { key_type: Some(string_key) }),
                "Dictionary (String → Double)",
            ),
        ];
        for (ty, formatted) in table {
            let fields = describe(&feature(ty)).unwrap();
            assert_eq!(fields["formattedType"], formatted);
            assert!(formatted.starts_with(&fields["type"]));
            assert_eq!((fields["name"].as_str(), fields["isOptional"].as_str()), ("f", "0"));
        }
    }

    #[test]
    fn what_has_no_known_words_is_refused() {
        let mut untyped = feature(Type::StringType(pb::StringFeatureType::default()));
        untyped.r#type = None;
        let sequence = feature(Type::SequenceType(pb::SequenceFeatureType::default()));
        let state = feature(Type::StateType(pb::StateFeatureType::default()));
        let dictionary = feature(Type::DictionaryType(pb::DictionaryFeatureType::default()));
        let image = feature(Type::ImageType(pb::ImageFeatureType::default()));
        for feature in [untyped, sequence, state, dictionary, image] {
            assert_eq!(describe(&feature).unwrap_err().name, "f");
        }
    }
}
