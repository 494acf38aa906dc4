//! Figures as text.

use std::fmt::Display;

/// What stands where there is no figure.
pub(super) const NONE: &str = "–";

/// A cosine, cut and not rounded after six places: it never looks better than it is, and 1.000000 is 1.
pub(super) fn cosine(value: Option<f64>) -> String {
    match value {
        Some(value) if value.abs() <= 1.0 => format!("{:.6}", (value * 1e6).floor() / 1e6),
        Some(value) => format!("{value:e}"),
        None => "NaN".to_owned(),
    }
}

/// The smallest of some cosines; none if there are none, NaN if one of them is.
pub(super) fn worst_cosine<'a>(values: impl IntoIterator<Item = &'a Option<f64>>) -> String {
    let mut values = values.into_iter().copied().peekable();
    if values.peek().is_none() {
        return NONE.to_owned();
    }
    let all: Option<Vec<f64>> = values.collect();
    cosine(all.map(|all| all.into_iter().fold(1.0, f64::min)))
}

/// The largest of some figures; NaN if one of them is.
pub(super) fn largest(values: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    values.into_iter().try_fold(0.0, |largest: f64, value| value.map(|value| largest.max(value)))
}

/// A figure of two places that count.
pub(super) fn short(value: Option<f64>) -> String {
    let Some(value) = value else { return "NaN".to_owned() };
    let magnitude = value.abs();
    if value == 0.0 {
        "0".to_owned()
    } else if (1e-7..1.0).contains(&magnitude) {
        let places = 1 - magnitude.log10().floor() as i32;
        format!("{value:.*}", places.max(0) as usize)
    } else if (1.0..1e6).contains(&magnitude) {
        format!("{value:.1}")
    } else {
        format!("{value:.1e}")
    }
}

/// A ratio, as in tokens a pass.
pub(super) fn ratio(value: Option<f64>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| format!("{value:.3}"))
}

/// A share of 1 in percent, cut and not rounded, so that 100.0 % is all.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", (share * 1000.0).floor() / 10.0)
}

/// A part of a whole in percent.
pub(super) fn part(part: usize, whole: usize) -> String {
    if whole == 0 { NONE.to_owned() } else { percent(part as f64 / whole as f64) }
}

/// A whole number in groups of three digits.
pub(super) fn count(number: impl Into<u64>) -> String {
    let digits = number.into().to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things: `1 operation`, `2 operations`.
pub(super) fn counted(number: usize, thing: &str) -> String {
    format!("{} {thing}{}", count(number as u64), if number == 1 { "" } else { "s" })
}

/// `32 of 32`.
pub(super) fn of(part: usize, whole: usize) -> String {
    format!("{} of {}", count(part as u64), count(whole as u64))
}

/// Things in a sentence: `a`, `a and b`, `a, b and c`.
pub(super) fn list<T: Display>(things: &[T]) -> String {
    let words: Vec<String> = things.iter().map(ToString::to_string).collect();
    match words.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}

/// A size, in the decimal units that limits of the Neural Engine are published in.
pub(super) fn bytes(bytes: u64) -> String {
    indicatif::DecimalBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cosine_never_looks_better_than_it_is() {
        for (value, text) in [
            (Some(1.0), "1.000000"),
            (Some(0.999_999_999), "0.999999"),
            (Some(-0.115_730_4), "-0.115731"),
            (Some(0.0), "0.000000"),
            (Some(1e300), "1e300"),
            (None, "NaN"),
        ] {
            assert_eq!(cosine(value), text);
        }
    }

    #[test]
    fn a_spoiled_cosine_is_worse_than_any() {
        assert_eq!(worst_cosine(&[]), NONE);
        assert_eq!(worst_cosine(&[Some(1.0), Some(-0.5)]), "-0.500000");
        assert_eq!(worst_cosine(&[Some(1.0), None]), "NaN");
        assert_eq!((largest([Some(1.0), Some(2.0)]), largest([Some(1.0), None])), (Some(2.0), None));
    }

    #[test]
    fn figures_keep_the_places_that_count() {
        for (value, text) in [
            (0.000_005_798, "0.0000058"),
            (0.024_07, "0.024"),
            (0.5, "0.50"),
            (58.43, "58.4"),
            (0.0, "0"),
            (3e-9, "3.0e-9"),
            (1e12, "1.0e12"),
        ] {
            assert_eq!(short(Some(value)), text);
        }
        assert_eq!(short(None), "NaN");
        assert_eq!((percent(0.9999), percent(1.0)), ("99.9 %".to_owned(), "100.0 %".to_owned()));
        assert_eq!((part(1, 2), part(0, 0)), ("50.0 %".to_owned(), NONE.to_owned()));
        assert_eq!((ratio(Some(2.0)), ratio(None)), ("2.000".to_owned(), NONE.to_owned()));
    }

    #[test]
    fn numbers_and_things_read_as_people_write_them() {
        for (number, text) in
            [(0_u64, "0"), (999, "999"), (1000, "1,000"), (200_064, "200,064"), (1_234_567, "1,234,567")]
        {
            assert_eq!(count(number), text);
        }
        assert_eq!(
            (counted(1, "operation"), counted(0, "operation")),
            ("1 operation".into(), "0 operations".into())
        );
        for (things, text) in
            [(&[][..], ""), (&["a"], "a"), (&["a", "b"], "a and b"), (&["a", "b", "c"], "a, b and c")]
        {
            assert_eq!(list(things), text);
        }
    }
}
