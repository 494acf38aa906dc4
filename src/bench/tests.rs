//! Medians, ratios and rates, from numbers made by hand; a bundle is measured by the tests of the command.

use super::figure::{Figure, Series};

fn series(values: &[f64]) -> Series {
    let mut series = Series::default();
    series.extend(values.iter().copied());
    series
}

#[test]
fn the_median_is_of_the_middle() {
    for (values, expected) in [
        (&[][..], None),
        (&[3.0], Some((3.0, 3.0, 3.0))),
        (&[4.0, 1.0, 2.0], Some((2.0, 1.0, 4.0))),
        (&[4.0, 1.0, 2.0, 3.0], Some((2.5, 1.0, 4.0))),
    ] {
        let found = series(values).figure().map(|figure| (figure.median, figure.min, figure.max));
        assert_eq!(found, expected, "{values:?}");
    }
}

/// A machine that is three times slower in one round is so for both sides; the ratio of medians would not say 2 here.
#[test]
fn ratios_are_taken_within_rounds() {
    let (above, below) = (series(&[2.0, 6.0, 4.0]), series(&[1.0, 3.0, 1.0]));
    let ratio = above.over(&below).figure().expect("a figure");
    assert_eq!((ratio.median, ratio.min, ratio.max), (2.0, 2.0, 4.0));
    let nothing = series(&[1.0]).over(&series(&[0.0])).figure();
    assert_eq!(nothing, None, "a time of nothing has no ratio");
}

#[test]
fn the_shortest_time_is_the_highest_rate() {
    let seconds = Figure { median: 0.5, min: 0.25, max: 2.0 };
    assert_eq!(seconds.rate(10.0), Figure { median: 20.0, min: 5.0, max: 40.0 });
    assert_eq!(seconds.scaled(1e3), Figure { median: 500.0, min: 250.0, max: 2000.0 });
}
