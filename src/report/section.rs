//! What all parts of the page have in common.

use maud::{Markup, html};

/// A part with a title that links can lead to.
pub(super) fn section(id: &str, title: &str, body: &Markup) -> Markup {
    html! {
        section id=(id) {
            h2 { (title) }
            (body)
        }
    }
}

/// A table that is moved sideways where the page is narrower than it.
pub(super) fn table(body: &Markup) -> Markup {
    html! { div.scroll { table { (body) } } }
}

/// More figures than most readers want; open on paper.
pub(super) fn details(summary: &str, body: &Markup) -> Markup {
    html! {
        details {
            summary { (summary) }
            (body)
        }
    }
}
