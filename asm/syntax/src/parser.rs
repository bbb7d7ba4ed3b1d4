//! A walk over tokens.

use crate::token::{Host, Mistake, Token, TokenKind};

/// What was parsed, or the mistake in its place.
pub(crate) type Result<T, H> = std::result::Result<T, Mistake<<H as Host>::Span>>;

/// Where in the tokens of a block its next statement is.
pub(crate) struct Parser<'a, H: Host> {
    pub(crate) host: &'a H,
    tokens: &'a [Token<H::Rust, H::Span>],
    at: usize,
    end: H::Span,
    jumps: &'a mut Vec<(String, H::Span)>,
}

impl<'a, H: Host> Parser<'a, H> {
    /// At the first token. Jumps to labels are noted in `jumps`.
    pub(crate) fn new(
        host: &'a H,
        tokens: &'a [Token<H::Rust, H::Span>],
        end: H::Span,
        jumps: &'a mut Vec<(String, H::Span)>,
    ) -> Self {
        Self { host, tokens, at: 0, end, jumps }
    }

    /// How many tokens came before.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn peek(&self) -> Option<&TokenKind<H::Rust>> {
        self.tokens.get(self.at).map(|token| &token.kind)
    }

    pub(crate) fn peek_word(&self) -> Option<&str> {
        match self.peek() {
            Some(TokenKind::Word(word)) => Some(word),
            _ => None,
        }
    }

    pub(crate) fn span(&self) -> H::Span {
        self.tokens.get(self.at).map_or(self.end, |token| token.span)
    }

    pub(crate) fn advance(&mut self) {
        self.at += 1;
    }

    fn is_punct(&self, at: usize, punct: char) -> bool {
        matches!(self.tokens.get(at), Some(Token { kind: TokenKind::Punct(found), .. }) if *found == punct)
    }

    pub(crate) fn at(&self, punct: char) -> bool {
        self.is_punct(self.at, punct)
    }

    pub(crate) fn at_next(&self, punct: char) -> bool {
        self.is_punct(self.at + 1, punct)
    }

    pub(crate) fn punct_ahead(&self, ahead: usize, punct: char) -> bool {
        self.is_punct(self.at + ahead, punct)
    }

    pub(crate) fn take(&mut self, punct: char) -> bool {
        let found = self.at(punct);
        self.at += usize::from(found);
        found
    }

    pub(crate) fn take_word(&mut self, word: &str) -> bool {
        let found = self.peek_word() == Some(word);
        self.at += usize::from(found);
        found
    }

    pub(crate) fn expect(&mut self, punct: char) -> Result<(), H> {
        if self.take(punct) { Ok(()) } else { Err(self.expected(&format!("`{punct}`"), None)) }
    }

    pub(crate) fn word(&mut self, what: &str) -> Result<String, H> {
        let Some(word) = self.peek_word().map(str::to_owned) else { return Err(self.expected(what, None)) };
        self.advance();
        Ok(word)
    }

    #[allow(clippy::unused_self)] // reads like its siblings
    pub(crate) fn mistake(&self, span: H::Span, message: String, help: Option<String>) -> Mistake<H::Span> {
        Mistake { span, message, help }
    }

    pub(crate) fn expected(&self, what: &str, help: Option<String>) -> Mistake<H::Span> {
        let found = self.peek().map_or("the end".to_owned(), TokenKind::quoted);
        self.mistake(self.span(), format!("expected {what}, found {found}"), help)
    }

    /// A statement ends with one; where it is missing, the token before is at fault.
    pub(crate) fn semicolon(&mut self) -> Result<(), H> {
        if self.take(';') {
            return Ok(());
        }
        let before = self.tokens.get(self.at.wrapping_sub(1)).map_or(self.end, |token| token.span);
        let found = self.peek().map_or("the end".to_owned(), TokenKind::quoted);
        Err(self.mistake(before, format!("expected `;` after this, found {found}"), None))
    }

    /// Goes on behind the next semicolon.
    pub(crate) fn recover(&mut self) {
        while self.at < self.tokens.len() && !self.take(';') {
            self.advance();
        }
    }

    pub(crate) fn word_after(&self) -> Option<&str> {
        match self.tokens.get(self.at + 1).map(|token| &token.kind) {
            Some(TokenKind::Word(word)) => Some(word),
            _ => None,
        }
    }

    /// The operator between two sides, from a list of words such as `s>>=`, the longest first.
    pub(crate) fn operator<O: Copy>(&mut self, list: &[(O, &str)]) -> Option<O> {
        let mut best: Option<(usize, O)> = None;
        for &(op, text) in list {
            let mut at = self.at;
            let found = text.chars().all(|c| {
                let found = match self.tokens.get(at).map(|token| &token.kind) {
                    Some(TokenKind::Punct(punct)) => *punct == c,
                    Some(TokenKind::Word(word)) => c == 's' && word == "s",
                    _ => false,
                };
                at += 1;
                found
            });
            if found && best.is_none_or(|(longest, _)| at > longest) {
                best = Some((at, op));
            }
        }
        let (at, op) = best?;
        self.at = at;
        Some(op)
    }

    /// Notes that something jumps to a label.
    pub(crate) fn jump_to(&mut self, label: String, span: H::Span) {
        self.jumps.push((label, span));
    }
}
