//! The compiler's tokens as the grammar's.

use bpfkit_asm_syntax::{Host, Token, TokenKind};
use proc_macro::{Delimiter, Group, Span, TokenStream, TokenTree};

/// The compiler as the host of the grammar: a Rust expression is its tokens.
pub struct Compiler;

impl Host for Compiler {
    type Span = Span;
    type Rust = TokenStream;

    fn path(&self, path: &str, span: Span) -> Result<TokenStream, String> {
        let tokens: TokenStream = path.parse().map_err(|error| format!("`{path}`: {error}"))?;
        Ok(tokens
            .into_iter()
            .map(|mut token| {
                token.set_span(span);
                token
            })
            .collect())
    }
}

/// All tokens, brackets among them, and the place after the last.
pub fn tokens(input: TokenStream) -> (Vec<Token<TokenStream, Span>>, Span) {
    let mut tokens = Vec::new();
    flatten(input, &mut tokens);
    let end = tokens.last().map_or_else(Span::call_site, |token| token.span);
    (tokens, end)
}

fn flatten(input: TokenStream, tokens: &mut Vec<Token<TokenStream, Span>>) {
    for tree in input {
        let span = tree.span();
        let kind = match tree {
            TokenTree::Ident(ident) => TokenKind::Word(ident.to_string()),
            TokenTree::Punct(punct) => TokenKind::Punct(punct.as_char()),
            TokenTree::Literal(literal) => number(literal),
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ('(', ')'),
                    Delimiter::Bracket => ('[', ']'),
                    Delimiter::Brace => {
                        // Without the braces, which the compiler would call unnecessary, but still as one.
                        let mut expression = Group::new(Delimiter::None, group.stream());
                        expression.set_span(span);
                        tokens.push(Token { kind: TokenKind::Rust(TokenTree::Group(expression).into()), span });
                        continue;
                    }
                    Delimiter::None => {
                        flatten(group.stream(), tokens);
                        continue;
                    }
                };
                tokens.push(Token { kind: TokenKind::Punct(open), span: group.span_open() });
                flatten(group.stream(), tokens);
                tokens.push(Token { kind: TokenKind::Punct(close), span: group.span_close() });
                continue;
            }
        };
        tokens.push(Token { kind, span });
    }
}

/// An integer literal without a suffix; a character or byte literal is left to braces.
fn number(literal: proc_macro::Literal) -> TokenKind<TokenStream> {
    let text = literal.to_string();
    let digits = text.replace('_', "");
    let value = match digits.get(..2) {
        Some("0x") => i128::from_str_radix(&digits[2..], 16),
        Some("0o") => i128::from_str_radix(&digits[2..], 8),
        Some("0b") => i128::from_str_radix(&digits[2..], 2),
        _ => digits.parse(),
    };
    value.map_or(TokenKind::Other(text), TokenKind::Int)
}
