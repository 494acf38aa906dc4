//! Stop strings: where a text ends because of what it says.
//!
//! A stop string may span tokens. Text that may be its beginning is held back until more is known, so that nothing of it is
//! ever shown.

/// Looks for stop strings in a text that comes in parts.
///
/// Of several, the one that is whole first counts; of those that are whole at the same byte, the longest. So the result does
/// not depend on how the text is parted.
#[derive(Debug, Clone, Default)]
pub struct StopStrings {
    stops: Vec<String>,
    /// The end of the text so far, which may be the beginning of a stop string.
    held: String,
    found: Option<usize>,
}

impl StopStrings {
    /// Stops at any of `stops`. An empty one would stop before anything is said, and is left out.
    pub fn new(stops: impl IntoIterator<Item = String>) -> Self {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        Self { stops, held: String::new(), found: None }
    }

    /// The stop string that ended the text, once one has.
    pub fn found(&self) -> Option<&str> {
        self.found.map(|found| self.stops[found].as_str())
    }

    /// Takes the next part and gives the text that may be shown. After a stop string there is none.
    pub fn push(&mut self, text: &str) -> String {
        if self.found.is_some() {
            return String::new();
        }
        self.held.push_str(text);
        let whole = |(nth, stop): (usize, &String)| {
            self.held.find(stop.as_str()).map(|start| (start + stop.len(), start, nth))
        };
        if let Some((_, start, nth)) = self.stops.iter().enumerate().filter_map(whole).min() {
            self.found = Some(nth);
            self.held.truncate(start);
            return std::mem::take(&mut self.held);
        }
        let begun = self.stops.iter().map(|stop| begun(&self.held, stop)).max().unwrap_or(0);
        let held = self.held.split_off(self.held.len() - begun);
        std::mem::replace(&mut self.held, held)
    }

    /// Gives what was held back, when the text ends by itself.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// How many bytes at the end of `text` are the beginning of `stop`, but not all of it.
fn begun(text: &str, stop: &str) -> usize {
    let (text, stop) = (text.as_bytes(), stop.as_bytes());
    let most = text.len().min(stop.len() - 1);
    // A character's first byte cannot be another's later byte, so this is a border between characters of the text.
    (1..=most).rev().find(|&length| text.ends_with(&stop[..length])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is shown of `parts`, and the stop string found.
    fn run(stops: &[String], parts: &[&str]) -> (String, Option<String>) {
        let mut search = StopStrings::new(stops.iter().cloned());
        let mut shown: String = parts.iter().map(|part| search.push(part)).collect();
        shown.push_str(&search.finish());
        (shown, search.found().map(str::to_owned))
    }

    /// The same by looking at every prefix of the whole text, shortest first.
    fn naive(stops: &[String], text: &str) -> (String, Option<String>) {
        for end in (0..=text.len()).filter(|&end| text.is_char_boundary(end)) {
            let whole = stops.iter().filter(|stop| !stop.is_empty() && text[..end].ends_with(stop.as_str()));
            if let Some(stop) = whole.max_by_key(|stop| stop.len()) {
                return (text[..end - stop.len()].to_owned(), Some(stop.clone()));
            }
        }
        (text.to_owned(), None)
    }

    #[test]
    fn text_before_a_stop_string_is_shown_and_nothing_after() {
        /// Stop strings, parts of a text, what is shown, what stopped it.
        type Case<'a> = (&'a [&'a str], &'a [&'a str], &'a str, Option<&'a str>);
        let cases: &[Case<'_>] = &[
            (&["\n\n"], &["a\n", "b\n", "\nc"], "a\nb", Some("\n\n")),
            (&["<|end|>"], &["so <|", "e", "nd", "|", "> more"], "so ", Some("<|end|>")),
            (&["<|end|>"], &["so <|", "en", "ough"], "so <|enough", None),
            (&["aab"], &["a", "a", "a", "b"], "a", Some("aab")),
            (&["abcd", "bc"], &["abcd"], "a", Some("bc")),
            (&["bc", "abc"], &["ab", "c"], "", Some("abc")),
            (&["🙂"], &["x🙃", "🙂"], "x🙃", Some("🙂")),
            (&[""], &["all", " of it"], "all of it", None),
            (&[], &["all"], "all", None),
        ];
        for (stops, parts, shown, found) in cases {
            let stops: Vec<String> = stops.iter().map(|&stop| stop.to_owned()).collect();
            assert_eq!(
                run(&stops, parts),
                ((*shown).to_owned(), found.map(str::to_owned)),
                "{stops:?} {parts:?}"
            );
        }
    }

    #[test]
    fn only_a_possible_beginning_is_held_back() {
        let mut search = StopStrings::new(["###".to_owned()]);
        assert_eq!(search.push("a#"), "a");
        assert_eq!(search.push("b##"), "#b");
        assert_eq!(search.push("# and"), "");
        assert_eq!(search.push("more"), "");
        assert_eq!((search.finish().as_str(), search.found()), ("", Some("###")));
    }

    proptest! {
        /// Over all ways to part a text in three and, by every character, in as many as it has.
        #[test]
        fn the_parts_do_not_matter(
            text in "[abé]{0,12}",
            stops in prop::collection::vec("[abé]{0,4}", 0..4),
        ) {
            let expected = naive(&stops, &text);
            let borders: Vec<usize> = (0..=text.len()).filter(|&at| text.is_char_boundary(at)).collect();
            for (nth, &first) in borders.iter().enumerate() {
                for &second in &borders[nth..] {
                    let parts = [&text[..first], &text[first..second], &text[second..]];
                    prop_assert_eq!(&run(&stops, &parts), &expected, "{:?}", parts);
                }
            }
            let characters: Vec<&str> = borders.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            prop_assert_eq!(&run(&stops, &characters), &expected);
        }
    }
}
