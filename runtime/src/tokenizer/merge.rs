//! Joining neighbours, best pair first: the loop that every byte-pair encoding shares.
//!
//! What may be joined, and which pair goes first, is the vocabulary's business; the loop asks it. Time is `n log n`, so a word
//! of a million letters is no trouble.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::token::TokenId;

/// A stretch of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Symbol {
    /// Where it begins, in bytes.
    pub(super) start: usize,
    /// Where it ends.
    pub(super) end: usize,
    /// The token it is, if it is one.
    pub(super) token: Option<TokenId>,
}

/// What two neighbours make together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Join {
    /// Lower goes first; of equals, the leftmost.
    pub(super) rank: u32,
    /// The token they make.
    pub(super) token: TokenId,
}

/// A join that was possible when it was noted. Ordered by rank, then by place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u32,
    left: usize,
    right: usize,
    /// Where the joined stretch ends. If the right symbol ends elsewhere by now, the candidate is outdated. (The left one
    /// cannot have changed: it grows only by taking in the right one.)
    end: usize,
    token: TokenId,
}

/// A symbol and its living neighbours.
struct Link {
    symbol: Symbol,
    previous: Option<usize>,
    next: Option<usize>,
    alive: bool,
}

/// Joins neighbours of `symbols`, which follow each other without gaps, until `join` allows no more.
pub(super) fn merge(
    symbols: impl Iterator<Item = Symbol>,
    join: impl Fn(&Symbol, &Symbol) -> Option<Join>,
) -> impl Iterator<Item = Symbol> {
    let mut chain: Vec<Link> = symbols
        .enumerate()
        .map(|(i, symbol)| Link { symbol, previous: i.checked_sub(1), next: Some(i + 1), alive: true })
        .collect();
    if let Some(last) = chain.last_mut() {
        last.next = None;
    }
    let candidate = |chain: &[Link], left: usize, right: usize| {
        let joined = join(&chain[left].symbol, &chain[right].symbol)?;
        let end = chain[right].symbol.end;
        Some(Reverse(Candidate { rank: joined.rank, left, right, end, token: joined.token }))
    };
    let mut queue: BinaryHeap<_> =
        (1..chain.len()).filter_map(|right| candidate(&chain, right - 1, right)).collect();
    while let Some(Reverse(Candidate { left, right, end, token, .. })) = queue.pop() {
        if !chain[left].alive || !chain[right].alive || chain[right].symbol.end != end {
            continue;
        }
        chain[left].symbol = Symbol { end, token: Some(token), ..chain[left].symbol };
        chain[right].alive = false;
        let next = chain[right].next;
        chain[left].next = next;
        if let Some(next) = next {
            chain[next].previous = Some(left);
            queue.extend(candidate(&chain, left, next));
        }
        if let Some(previous) = chain[left].previous {
            queue.extend(candidate(&chain, previous, left));
        }
    }
    chain.into_iter().filter(|link| link.alive).map(|link| link.symbol)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Looks at all pairs for every join.
    fn naive(mut symbols: Vec<Symbol>, join: impl Fn(&Symbol, &Symbol) -> Option<Join>) -> Vec<Symbol> {
        loop {
            let pairs = symbols.windows(2).enumerate();
            let possible = pairs.filter_map(|(at, pair)| Some((at, join(&pair[0], &pair[1])?)));
            let Some((at, best)) = possible.min_by_key(|&(at, join)| (join.rank, at)) else { return symbols };
            symbols[at].end = symbols.remove(at + 1).end;
            symbols[at].token = Some(best.token);
        }
    }

    proptest! {
        /// Any table over five tokens: ranks that are equal, joins that make their own parts again, tokens that are none.
        #[test]
        fn the_queue_joins_what_looking_at_all_pairs_would(
            tokens in prop::collection::vec(prop::option::weighted(0.9, 0u32..5), 0..24),
            table in prop::collection::vec(prop::option::of((0u32..6, 0u32..5)), 25),
        ) {
            let symbols: Vec<Symbol> = tokens
                .iter()
                .enumerate()
                .map(|(start, &token)| Symbol { start, end: start + 1, token })
                .collect();
            let join = |left: &Symbol, right: &Symbol| {
                let (rank, token) = table[(left.token? * 5 + right.token?) as usize]?;
                Some(Join { rank, token })
            };
            let joined: Vec<Symbol> = merge(symbols.iter().copied(), join).collect();
            prop_assert_eq!(joined, naive(symbols, join));
        }
    }
}
