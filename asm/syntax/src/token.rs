//! What the grammar is made of, whoever cut the text into tokens.

/// One token. Brackets are tokens of their own; braces never show, as what is between them is Rust.
#[derive(Clone, Debug)]
pub struct Token<V, S> {
    /// What it is.
    pub kind: TokenKind<V>,
    /// Where it is.
    pub span: S,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenKind<V> {
    /// A name or a keyword.
    Word(String),
    /// A number without its sign.
    Int(i128),
    /// One character of punctuation, round and square brackets among them.
    Punct(char),
    /// `{expr}`
    Rust(V),
    /// Something else, such as a string.
    Other(String),
}

impl<V> TokenKind<V> {
    /// How a message quotes it.
    pub(crate) fn quoted(&self) -> String {
        match self {
            Self::Word(word) | Self::Other(word) => format!("`{word}`"),
            Self::Int(int) => format!("`{int}`"),
            Self::Punct(punct) => format!("`{punct}`"),
            Self::Rust(_) => "`{..}`".to_owned(),
        }
    }
}

/// Who parses: the macro, or a text.
pub trait Host {
    /// A place in the source.
    type Span: Copy;
    /// A Rust expression.
    type Rust: Clone;

    /// Makes an expression of a path such as `libc::AF_INET`.
    ///
    /// # Errors
    /// Why there can be none.
    fn path(&self, path: &str, span: Self::Span) -> Result<Self::Rust, String>;
}

/// A mistake at a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake<S> {
    /// The token.
    pub span: S,
    /// What is wrong.
    pub message: String,
    /// What might be right.
    pub help: Option<String>,
}
