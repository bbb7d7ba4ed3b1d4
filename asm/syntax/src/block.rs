//! A block: its statements, its labels, and the mistakes in it.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::parser::Parser;
use crate::suggest::did_you_mean;
use crate::token::{Host, Mistake, Token};
use crate::{Reference, Stmt};

/// A statement, and the tokens that it was made of.
#[derive(Clone, Debug)]
pub struct Statement<V, S> {
    /// What it says.
    pub stmt: Stmt<V>,
    /// What it refers to until it is linked, as instructions of object files do.
    pub reference: Option<Reference>,
    /// Where it begins.
    pub span: S,
    /// Which tokens it is, without the semicolon.
    pub tokens: Range<usize>,
}

/// A block that is parsed, all at once or in parts.
///
/// Labels are checked: each jump has one, and each stands in one place.
#[derive(Debug)]
pub struct Block<S> {
    labels: BTreeMap<String, S>,
    jumps: Vec<(String, S)>,
    mistakes: Vec<Mistake<S>>,
}

/// How many mistakes are told, and one that says so if there are more. A text that is no program has one for each word, and each
/// takes time to find out what may have been meant.
const MOST_MISTAKES: usize = 100;

impl<S: Copy> Default for Block<S> {
    fn default() -> Self {
        Self { labels: BTreeMap::new(), jumps: Vec::new(), mistakes: Vec::new() }
    }
}

impl<S: Copy> Block<S> {
    /// Parses the next tokens, which begin and end with a statement. `end` is where a message points that misses something after
    /// the last of them.
    pub fn parse<H: Host<Span = S>>(
        &mut self,
        host: &H,
        tokens: &[Token<H::Rust, S>],
        end: S,
    ) -> Vec<Statement<H::Rust, S>> {
        let mut parser = Parser::new(host, tokens, end, &mut self.jumps);
        let mut statements = Vec::new();
        while parser.peek().is_some() && !is_full(&self.mistakes) {
            if parser.take(';') {
                continue;
            }
            let (start, span) = (parser.position(), parser.span());
            match parser.statement().and_then(|stmt| parser.referring(&stmt).map(|reference| (stmt, reference))) {
                Ok((stmt, reference)) => {
                    if let Stmt::Label(name) = &stmt
                        && self.labels.insert(name.clone(), span).is_some()
                    {
                        let message = format!("label `{name}` stands in two places");
                        note(&mut self.mistakes, Mistake { span, message, help: None });
                    }
                    let tokens = start..parser.position();
                    if !matches!(stmt, Stmt::Label(_))
                        && let Err(mistake) = parser.semicolon()
                    {
                        note(&mut self.mistakes, mistake);
                        parser.recover();
                    }
                    statements.push(Statement { stmt, reference, span, tokens });
                }
                Err(mistake) => {
                    note(&mut self.mistakes, mistake);
                    parser.recover();
                }
            }
        }
        statements
    }

    /// Whether there are so many mistakes that no more are told, and nothing more is parsed.
    pub fn is_given_up(&self) -> bool {
        is_full(&self.mistakes)
    }

    /// Ends the block.
    ///
    /// # Errors
    /// Every mistake, up to a hundred; after one the grammar went on behind the next semicolon.
    pub fn finish(mut self) -> Result<(), Vec<Mistake<S>>> {
        for (name, span) in std::mem::take(&mut self.jumps) {
            if !self.labels.contains_key(&name) && !self.is_given_up() {
                let help = did_you_mean(&name, self.labels.keys().map(String::as_str));
                let message = format!("there is no label `{name}` in this block");
                note(&mut self.mistakes, Mistake { span, message, help });
            }
        }
        if self.mistakes.is_empty() { Ok(()) } else { Err(self.mistakes) }
    }
}

fn is_full<S>(mistakes: &[Mistake<S>]) -> bool {
    mistakes.len() > MOST_MISTAKES
}

/// Adds a mistake to those that are told.
fn note<S>(mistakes: &mut Vec<Mistake<S>>, mistake: Mistake<S>) {
    if mistakes.len() < MOST_MISTAKES {
        mistakes.push(mistake);
    } else if mistakes.len() == MOST_MISTAKES {
        let message = format!("this is not the last mistake, and no more than {MOST_MISTAKES} are shown");
        mistakes.push(Mistake { message, help: None, ..mistake });
    }
}

/// Parses a whole block. `end` is where a message points that misses something after the last token.
///
/// # Errors
/// As [`Block::finish`].
#[allow(clippy::type_complexity)] // naming it would hide more than it shows
pub fn parse<H: Host>(
    host: &H,
    tokens: &[Token<H::Rust, H::Span>],
    end: H::Span,
) -> Result<Vec<Statement<H::Rust, H::Span>>, Vec<Mistake<H::Span>>> {
    let mut block = Block::default();
    let statements = block.parse(host, tokens, end);
    block.finish().map(|()| statements)
}
