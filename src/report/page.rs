//! The page as a whole.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::Evidence;
use super::{contents, exact, golden, overview, parity, quantization, residency};

/// Part of the page, because a page that is sent around must not need another file.
const STYLE: &str = include_str!("style.css");

/// Nothing is loaded and no script runs, whatever a file's text might try.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// The page of a bundle, as HTML.
pub(crate) fn page(evidence: &Evidence) -> String {
    let parts: [(&str, &str, Markup); 6] = [
        ("contents", "What was built", contents::section(evidence)),
        ("parity", "Parity", parity::section(evidence)),
        ("residency", "Residency", residency::section(evidence)),
        ("golden", "Golden", golden::section(evidence)),
        ("exact", "Exactness", exact::section(evidence)),
        ("quantization", "Quantization", quantization::section(evidence)),
    ];
    let title = overview::title(evidence);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (title) }
                    (overview::lead(evidence))
                }
                main {
                    (overview::section(evidence))
                    nav aria-label="Parts of this page" {
                        @for (id, title, _) in &parts {
                            a href={ "#" (id) } { (title) } " "
                        }
                    }
                    @for (id, title, body) in &parts {
                        (super::section::section(id, title, body))
                    }
                }
                footer { (overview::origin(evidence)) }
            }
        }
    };
    page.into_string()
}
